"""The measured models at their real size, and the sizes of their inputs."""

from dataclasses import dataclass
from typing import Any

__all__ = ["BUILD_LIMITS", "EXPORT_LIMITS", "MODELS", "SPEED_CASES", "BuildLimits", "ExportLimits", "SpeedCase"]

MODELS: dict[str, dict[str, Any]] = {
    "ltx2": {
        "_class_name": "AutoencoderKLLTX2Video",
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 128,
        "block_out_channels": [256, 512, 1024, 2048],
        "decoder_block_out_channels": [256, 512, 1024],
        "layers_per_block": [4, 6, 6, 2, 2],
        "decoder_layers_per_block": [5, 5, 5, 5],
        "encoder_causal": True,
        "decoder_causal": False,
        "encoder_spatial_padding_mode": "zeros",
        "decoder_spatial_padding_mode": "reflect",
        "spatial_compression_ratio": 32,
        "temporal_compression_ratio": 8,
    },
    "sd": {
        "_class_name": "AutoencoderKL",
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "block_out_channels": [128, 256, 512, 512],
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "sample_size": 512,
        "scaling_factor": 0.18215,
    },
}
"""config.json by name: LTX-2.0 (1.22 G parameters) and the AutoencoderKL of Stable Diffusion 1.x (84 M)."""


@dataclass(frozen=True)
class SpeedCase:
    """One input shape of one component.

    Attributes:
        model: name of the model in `MODELS`.
        component: "encoder" or "decoder".
        shape: shape of the input.
        wanted: promised speed as a multiple of diffusers'; None without a promise.
    """

    model: str
    component: str
    shape: tuple[int, ...]
    wanted: float | None = None


SPEED_CASES = (
    SpeedCase("ltx2", "decoder", (1, 128, 2, 4, 4), wanted=1.5),
    SpeedCase("ltx2", "encoder", (1, 3, 9, 128, 128)),
    SpeedCase("sd", "decoder", (1, 4, 32, 32), wanted=1.15),
    SpeedCase("sd", "decoder", (1, 4, 64, 64)),
    SpeedCase("sd", "encoder", (1, 3, 256, 256)),
)


@dataclass(frozen=True)
class ExportLimits:
    """Limits of an export of encoder and decoder."""

    seconds: float
    gib: float | None = None


EXPORT_LIMITS = {"ltx2": ExportLimits(seconds=240, gib=14), "sd": ExportLimits(seconds=40)}


@dataclass(frozen=True)
class BuildLimits:
    """Limits of a build of the decoder's engine, and its profile: three shapes (batch, height, width, frames)."""

    seconds: float
    gib: float
    shapes: tuple[tuple[int, int, int, int], ...]


BUILD_LIMITS = {
    "ltx2": BuildLimits(seconds=120, gib=10, shapes=((1, 128, 128, 1), (1, 512, 512, 17), (1, 768, 768, 121)))
}
