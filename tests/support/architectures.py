"""Real architectures, narrow, and the sizes they are tested at: what most tests are parametrised over."""

from typing import Any

import numpy as np
import torch

KL_BASE: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [32, 64, 64, 64],
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
KL: dict[str, dict[str, Any]] = {
    "sd": KL_BASE,
    "sdxl": KL_BASE | {"scaling_factor": 0.13025, "sample_size": 1024, "force_upcast": True},
    "flux": KL_BASE
    | {
        "latent_channels": 16,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
    },
    "playground": KL_BASE
    | {"scaling_factor": 0.5, "latents_mean": [-1.6, 1.1, 0.2, 0.9], "latents_std": [8.4, 5.9, 5.0, 5.3]},
    "no_attention": KL_BASE | {"mid_block_add_attention": False},
    "odd_groups": KL_BASE
    | {"block_out_channels": [21, 35, 49], "norm_num_groups": 7, "layers_per_block": 1}
    | {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3},
    "rgba_gelu": KL_BASE | {"in_channels": 4, "out_channels": 4, "act_fn": "gelu", "layers_per_block": 1},
    "mish": KL_BASE | {"act_fn": "mish", "layers_per_block": 1},
    "relu_one_block": {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [32],
        "act_fn": "relu",
        "scaling_factor": 1.0,
    },
}

FLUX_2: dict[str, Any] = {
    "_class_name": "AutoencoderKLFlux2",
    "block_out_channels": [32, 64, 64, 64],
    "latent_channels": 8,
}
KL |= {
    "flux2": FLUX_2,
    "flux2_small_decoder": FLUX_2 | {"decoder_block_out_channels": [32, 32, 64, 32], "layers_per_block": 1},
}

LTX_20: dict[str, Any] = {
    "_class_name": "AutoencoderKLLTX2Video",
    "latent_channels": 16,
    "block_out_channels": [16, 32, 64, 128],
    "decoder_block_out_channels": [16, 32, 64],
    "layers_per_block": [2, 1, 1, 1, 1],
    "decoder_layers_per_block": [1, 1, 1, 1],
    "decoder_causal": False,
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
LTX_23: dict[str, Any] = LTX_20 | {
    "block_out_channels": [16, 32, 64, 64],
    "decoder_block_out_channels": [16, 32, 32, 64],
    "decoder_layers_per_block": [1, 2, 1, 1, 1],
    "decoder_spatio_temporal_scaling": [True, True, True, True],
    "decoder_inject_noise": [False] * 5,
    "upsample_type": ["spatiotemporal", "spatiotemporal", "temporal", "spatial"],
    "upsample_residual": [False] * 4,
    "upsample_factor": [2, 2, 1, 2],
    "decoder_spatial_padding_mode": "zeros",
}
LTX: dict[str, dict[str, Any]] = {
    "ltx20": LTX_20,
    "ltx23": LTX_23,
    "causal_decoder": LTX_20 | {"decoder_causal": True},
    "non_causal_encoder": LTX_20 | {"encoder_causal": False, "encoder_spatial_padding_mode": "reflect"},
    "timestep": LTX_20 | {"timestep_conditioning": True},
    "noise": LTX_20 | {"decoder_inject_noise": [True, False, True, True]},
    "noise_timestep": LTX_23 | {"decoder_inject_noise": [True] * 5, "timestep_conditioning": True},
    "patch_2": LTX_20
    | {"patch_size": 2, "spatial_compression_ratio": 16, "in_channels": 1, "out_channels": 1, "latent_channels": 8},
    "conv_down": {
        "_class_name": "AutoencoderKLLTX2Video",
        "latent_channels": 16,
        "block_out_channels": [16],
        "down_block_types": ["LTX2VideoDownBlock3D"],
        "downsample_type": ["conv"],
        "layers_per_block": [1, 1],
        "spatio_temporal_scaling": True,
        "decoder_block_out_channels": [16],
        "decoder_layers_per_block": [1, 1],
        "decoder_spatio_temporal_scaling": True,
        "decoder_inject_noise": False,
        "upsample_type": ["spatiotemporal"],
        "upsample_residual": False,
        "upsample_factor": [1],
    },
    "shortcuts": LTX_20
    | {
        # Upsamplers of factor 1 let a block change its width, through a residual block with a shortcut.
        "decoder_block_out_channels": [24, 32, 64],
        "upsample_factor": [1, 1, 1],
        "upsample_residual": [True, False, True],
    },
}
ALL = {**KL, **LTX}


def picture(config: dict[str, Any], *, batch: int, frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random sample in [-1, 1], float32 (B, C, H, W) or (B, C, T, H, W)."""
    shape: tuple[int, ...] = (batch, config.get("in_channels", 3), height, width)
    if config["_class_name"].endswith("Video"):
        shape = (*shape[:2], frames, *shape[2:])
    noise = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return np.tanh(noise)


def diffusers_model(config: dict[str, Any], *, seed: int = 0) -> Any:
    """diffusers' model of that config, with random weights that exercise every parameter."""
    import diffusers

    torch.manual_seed(seed)
    values = {key: value for key, value in config.items() if not key.startswith("_")}
    model = getattr(diffusers, config["_class_name"])(**values).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim <= 1 and parameter.numel() > 1:  # norms and biases start as ones and zeros
                parameter.add_(0.2 * torch.randn_like(parameter))
        for name, parameter in model.named_parameters():
            if "per_channel_scale" in name:
                parameter.copy_(0.3 * torch.randn_like(parameter))
        if config["_class_name"] == "AutoencoderKLFlux2":
            model.bn.running_mean.copy_(0.5 * torch.randn_like(model.bn.running_mean))
            model.bn.running_var.copy_(0.5 + torch.rand_like(model.bn.running_var))
        if config["_class_name"] == "AutoencoderKLLTX2Video":
            model.latents_mean.copy_(0.5 * torch.randn_like(model.latents_mean))
            model.latents_std.copy_(0.5 + torch.rand_like(model.latents_std))
    return model


def latents_of(vae: Any, size: tuple[int, ...], batch: int = 1) -> np.ndarray:
    """Random latents for an autoencoder, (batch, latent_channels, *size), always the same."""
    shape = (batch, vae.config.latent_channels, *size)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """max|a-b| / max|b|."""
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    assert np.isfinite(theirs).all()
    return float(np.abs(ours.astype(np.float64) - theirs).max() / np.abs(theirs).max())
