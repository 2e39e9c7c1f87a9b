"""The image demo model: an `AutoencoderKL` with the structure of FLUX's VAE, narrow."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import photographs
from .pool import Pool, crop, jitter
from .training import kl, psnr, reconstruction_loss

STEPS = 7000
PEAK = 2e-3  # learning rate after warm-up
SEED = 1
STATISTICS = 1_000_000  # seeds beyond those of the training steps

CONFIG: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "block_out_channels": [16, 32, 64, 64],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "force_upcast": False,
    "in_channels": 3,
    "latent_channels": 16,
    "latents_mean": None,
    "latents_std": None,
    "layers_per_block": 1,
    "mid_block_add_attention": False,
    "norm_num_groups": 8,
    "out_channels": 3,
    "sample_size": 256,
    "scaling_factor": 1.0,
    "shift_factor": 0.0,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "use_post_quant_conv": False,
    "use_quant_conv": False,
}


# (size, pictures in a batch). The last quarter has larger pictures, since normalisations depend on the size.
_SHAPES = [(64, 10), (64, 10), (64, 10), (128, 3)]
_LARGE = [(64, 10), (128, 3), (160, 2), (192, 1)]


def batches(pool: Pool, steps: int) -> Iterator[Tensor]:
    """Yield batches of training pictures (N, 3, size, size) in -1..1."""
    for step in range(steps):
        rng = np.random.default_rng([SEED, step])
        shapes = _SHAPES if step < 0.75 * steps else _LARGE
        size, count = shapes[step % len(shapes)]
        yield torch.stack([jitter(rng, crop(rng, pool.draw(rng), size)) for _ in range(count)]) * 2 - 1


def loss_of(model: Any, pictures: Tensor, noise: torch.Generator) -> Tensor:
    """Return the loss: reconstruction from one sample of the latent Gaussian, plus 1e-4 times the KL divergence."""
    with torch.autocast("cpu", torch.bfloat16):
        mean, logvar = model.encoder(pictures).float().chunk(2, dim=1)
        logvar = logvar.clamp(-30, 20)
        sample = mean + (0.5 * logvar).exp() * torch.randn(mean.shape, generator=noise)
        output = model.decoder(sample).float()
    return reconstruction_loss(output, pictures) + 1e-4 * kl(mean, logvar)


def held_out() -> dict[str, Tensor]:
    """Return the held-out photographs: centre squares resized to 256, (1, 3, 256, 256) in -1..1."""
    return {
        name: torch.from_numpy(photographs.square(photographs.photograph(name), 256).copy())
        .permute(2, 0, 1)[None]
        .float()
        / 127.5
        - 1
        for name in photographs.HELD_OUT
    }


@torch.no_grad()
def reconstruct(model: Any, pictures: Tensor) -> Tensor:
    """Encode, take the mean, decode; float32."""
    return model.decoder(model.encoder(pictures).chunk(2, dim=1)[0])


def evaluate(model: nn.Module) -> str:
    """Return the PSNR of each held-out photograph, as text."""
    return " ".join(
        f"{name} {psnr(reconstruct(model, picture), picture):.2f} dB" for name, picture in held_out().items()
    )


def statistics_pictures(pool: Pool, count: int = 64) -> Tensor:
    """Return training pictures (count, 3, 256, 256) in -1..1 for the statistics of the latents."""
    pictures = []
    for number in range(count):
        rng = np.random.default_rng([SEED, STATISTICS, number])
        pictures.append(jitter(rng, crop(rng, pool.draw(rng), 256)) * 2 - 1)
    return torch.stack(pictures)


@torch.no_grad()
def set_statistics(model: Any, config: dict[str, Any], pool: Pool) -> None:
    """Set shift and scaling in `config` so that (z - shift) * scaling of training latents has mean 0, deviation 1."""
    values = torch.cat([model.encoder(one).chunk(2, dim=1)[0] for one in torch.split(statistics_pictures(pool), 1)])
    config["shift_factor"] = round(values.mean().item(), 5)
    config["scaling_factor"] = round(1 / values.std().item(), 5)
