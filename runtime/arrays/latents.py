"""Model latents to diffusion latents and back, each as the diffusers pipelines do it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..config.model_config import ModelConfig
from ..errors import ConfigError, InputError

__all__ = ["mean_and_factor", "packed_latents", "scale_latents", "unscale_latents"]

Array = NDArray[np.float32]


def scale_latents(latents: Array, config: ModelConfig) -> Array:
    """Model latents (what encode gives) -> diffusion latents (what the denoiser sees); (B, C, ...), float32.

    With per-channel statistics: (z - mean) * scaling_factor / std (Playground 2.5, LTX-2). Otherwise
    (z - shift_factor) * scaling_factor (SD3, FLUX.1), shift_factor being 0 where there is none (SD, SDXL).

    FLUX.2 packs 2x2 cells into one of four times the channels, and its statistics are of those: (B, C, h, w) ->
    (B, 4 * C, h / 2, w / 2).

    Raises:
        InputError: FLUX.2, and h or w is odd.
    """
    latents = packed_latents(latents, config)
    mean, factor = mean_and_factor(config, latents.ndim)
    return np.asarray((latents - mean) * factor, dtype=np.float32)


def unscale_latents(latents: Array, config: ModelConfig) -> Array:
    """Diffusion latents -> model latents (what decode takes): the reverse of `scale_latents`.

    Which pipelines give diffusion latents with `output_type="latent"`, and which give model latents, is the table in
    docs/latents.md: LTX-2's and FLUX.2 Klein's give model latents, which are not to be unscaled.
    """
    mean, factor = mean_and_factor(config, latents.ndim)
    unscaled = np.asarray(latents / factor + mean, dtype=np.float32)
    return unscaled if config.packing is None else _unpacked(unscaled, config.packing)


def packed_latents(latents: Array, config: ModelConfig) -> Array:
    """(B, C, h, w) -> (B, C * rows * columns, h / rows, w / columns), the channel slowest: FLUX.2's layout. Latents of
    a family without packing stay as they are.

    Raises:
        InputError: h or w is odd.
    """
    if config.packing is None:
        return latents
    batch, channels, height, width = latents.shape
    rows, columns = config.packing
    if height % rows or width % columns:
        ratio = config.spatial_ratio
        raise InputError(
            f"latents: {config.family} packs {rows}x{columns} cells into one, so height and width must be even, got "
            f"({height}, {width}); make the picture a multiple of {rows * ratio} pixels high and {columns * ratio} wide"
        )
    split = latents.reshape(batch, channels, height // rows, rows, width // columns, columns)
    return split.transpose(0, 1, 3, 5, 2, 4).reshape(batch, -1, height // rows, width // columns)


def _unpacked(latents: Array, packing: tuple[int, int]) -> Array:
    """The reverse of `packed_latents`."""
    batch, _, height, width = latents.shape
    rows, columns = packing
    split = latents.reshape(batch, -1, rows, columns, height, width)
    unpacked = np.empty((batch, split.shape[1], height * rows, width * columns), np.float32)
    unpacked.reshape(batch, -1, height, rows, width, columns)[...] = split.transpose(0, 1, 4, 2, 5, 3)
    return unpacked


def mean_and_factor(config: ModelConfig, rank: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What `scale_latents` subtracts, and what it then multiplies with: per channel, or one number for all of them.

    Arrays of `rank` axes that broadcast against latents (B, C, ...).
    """
    if config.missing_statistics:
        raise ConfigError(f"config: {config.family} needs {' and '.join(config.missing_statistics)} to scale latents")
    scaling = np.float64(config.scaling_factor or 1.0)
    if config.latents_mean is not None and config.latents_std is not None:
        return _per_channel(config.latents_mean, rank), scaling / _per_channel(config.latents_std, rank)
    return np.asarray(config.shift_factor or 0.0), np.asarray(scaling)


def _per_channel(values: Sequence[float], rank: int) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64).reshape(1, -1, *[1] * (rank - 2))
