"""The video demo model: an `AutoencoderKLLTX2Video` with the layout of LTX-2.0's VAE, narrow."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from . import training
from .beginning import begin_with_averages
from .clips import clip
from .pool import Pool
from .training import kl, psnr, reconstruction_loss

STEPS = 2500
PEAK = 1e-3  # learning rate after warm-up
SEED = 2
HELD_OUT_SEED = 3
STATISTICS = 1_000_000  # seeds beyond those of the training steps

CONFIG: dict[str, Any] = {
    "_class_name": "AutoencoderKLLTX2Video",
    "block_out_channels": [32, 32, 64, 64],
    "decoder_block_out_channels": [16, 16, 64],
    "decoder_causal": False,
    "decoder_inject_noise": [False, False, False, False],
    "decoder_layers_per_block": [1, 1, 1, 1],
    "decoder_spatial_padding_mode": "reflect",
    "decoder_spatio_temporal_scaling": [True, True, True],
    "down_block_types": ["LTX2VideoDownBlock3D"] * 4,
    "downsample_type": ["spatial", "temporal", "spatiotemporal", "spatiotemporal"],
    "encoder_causal": True,
    "encoder_spatial_padding_mode": "zeros",
    "in_channels": 3,
    "latent_channels": 56,
    "layers_per_block": [0, 1, 0, 0, 0],
    "out_channels": 3,
    "patch_size": 4,
    "patch_size_t": 1,
    "resnet_norm_eps": 1e-06,
    "scaling_factor": 1.0,
    "spatial_compression_ratio": 32,
    "spatio_temporal_scaling": [True, True, True, True],
    "temporal_compression_ratio": 8,
    "timestep_conditioning": False,
    "upsample_factor": [1, 1, 4],
    "upsample_residual": [True, True, True],
    "upsample_type": ["spatiotemporal", "spatiotemporal", "spatiotemporal"],
}

# (frames, size, clips in a batch). The last steps have larger frames, as the demo has.
_SHAPES = [(9, 128, 2), (17, 96, 2), (9, 96, 3), (17, 128, 1)]
_LARGE = [(17, 96, 2), (9, 160, 1), (17, 128, 1), (1, 128, 6), (25, 96, 1), (9, 128, 2)]


def batches(pool: Pool, steps: int) -> Iterator[Tensor]:
    """Yield batches of training clips (N, 3, frames, size, size) in -1..1."""
    for step in range(steps):
        rng = np.random.default_rng([SEED, step])
        shapes = _SHAPES if step < 0.7 * steps else _LARGE
        frames, size, count = shapes[step % len(shapes)]
        yield torch.stack([clip(rng, pool, frames, size) for _ in range(count)])


def initialise(model: nn.Module) -> None:
    """Draw seeded weights that already pass on averages."""
    training.initialise(model, CONFIG["latent_channels"], SEED, bias_spread=0.3)
    begin_with_averages(model, CONFIG["patch_size"])


def moments(encoded: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Return mean and log-variance of an encoder's result. All channels of the log-variance are the same."""
    return encoded[:, :channels], encoded[:, channels : channels + 1].clamp(-30, 20)


def loss_of(model: Any, clips: Tensor, noise: torch.Generator) -> Tensor:
    """Return the loss: reconstruction from one sample of the latent Gaussian, coarse colour, and KL divergence."""
    with torch.autocast("cpu", torch.bfloat16):
        mean, logvar = moments(model.encoder(clips).float(), CONFIG["latent_channels"])
        sample = mean + (0.5 * logvar).exp() * torch.randn(mean.shape, generator=noise)
        output = model.decoder(sample).float()
    frames, targets = (value.transpose(1, 2).flatten(0, 1) for value in (output, clips))
    coarse = functional.avg_pool2d(frames - targets, 4)
    colour = (coarse - coarse.mean(dim=1, keepdim=True)).square().mean()
    return reconstruction_loss(frames, targets, halvings=4) + 4 * colour + 1e-4 * kl(mean, logvar)


def held_out(count: int = 8) -> list[Tensor]:
    """Draw clips of 25 frames of 128x128 from pictures that training never uses."""
    pool = Pool.held_out()
    return [clip(np.random.default_rng([HELD_OUT_SEED, n]), pool, 25, 128)[None] for n in range(count)]


@torch.no_grad()
def reconstruct(model: Any, clips: Tensor) -> Tensor:
    """Encode, take the mean, decode; float32."""
    return model.decoder(moments(model.encoder(clips), CONFIG["latent_channels"])[0])


def evaluate(model: nn.Module, clips: list[Tensor]) -> str:
    """Return the mean and the lowest PSNR of held-out clips, as text."""
    values = [psnr(reconstruct(model, sample), sample) for sample in clips]
    return f"clips {sum(values) / len(values):.2f} dB (lowest {min(values):.2f})"


@torch.no_grad()
def set_statistics(model: Any, pool: Pool) -> None:
    """Fill the buffers `latents_mean` and `latents_std` from training clips, channel by channel."""
    latents = []
    for number in range(96):
        rng = np.random.default_rng([SEED, STATISTICS, number])
        mean, _ = moments(model.encoder(clip(rng, pool, 17, 128)[None]), CONFIG["latent_channels"])
        latents.append(mean.transpose(0, 1).flatten(1))
    values = torch.cat(latents, dim=1)
    model.latents_mean.copy_(values.mean(dim=1))
    model.latents_std.copy_(values.std(dim=1).clamp_min(1e-3))
