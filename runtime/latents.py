"""Model latents to diffusion latents and back, each as the diffusers pipelines do it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .config import ModelConfig

__all__ = ["scale_latents", "unscale_latents"]

Array = NDArray[np.float32]


def scale_latents(latents: Array, config: ModelConfig) -> Array:
    """Model latents (what encode gives) -> diffusion latents (what the denoiser sees); (B, C, ...), float32.

    With per-channel statistics: (z - mean) * scaling_factor / std (Playground 2.5, LTX-2). Otherwise
    (z - shift_factor) * scaling_factor (SD3, FLUX), shift_factor being 0 where there is none (SD, SDXL).
    """
    mean, factor = _mean_and_factor(config, latents.ndim)
    return np.asarray((latents - mean) * factor, dtype=np.float32)


def unscale_latents(latents: Array, config: ModelConfig) -> Array:
    """Diffusion latents -> model latents (what decode takes): the reverse of `scale_latents`."""
    mean, factor = _mean_and_factor(config, latents.ndim)
    return np.asarray(latents / factor + mean, dtype=np.float32)


def _mean_and_factor(config: ModelConfig, rank: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    scaling = np.float64(config.scaling_factor or 1.0)
    if config.latents_mean is not None and config.latents_std is not None:
        return _per_channel(config.latents_mean, rank), scaling / _per_channel(config.latents_std, rank)
    return np.asarray(getattr(config, "shift_factor", None) or 0.0), np.asarray(scaling)


def _per_channel(values: Sequence[float], rank: int) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64).reshape(1, -1, *[1] * (rank - 2))
