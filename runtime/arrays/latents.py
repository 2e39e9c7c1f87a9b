"""Conversion between model latents and diffusion latents, as the diffusers pipelines do it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..config.model_config import ModelConfig
from ..errors import ConfigError, InputError

__all__ = ["mean_and_factor", "packed_latents", "scale_latents", "unpacked_cells", "unscale_latents"]

Array = NDArray[np.float32]


def scale_latents(latents: Array, config: ModelConfig) -> Array:
    """Convert model latents (the output of `encode`) to diffusion latents (the input of the denoiser).

    With per-channel statistics, the result is (z - mean) * scaling_factor / std (Playground 2.5, LTX-2). Otherwise it
    is (z - shift_factor) * scaling_factor (SD3, FLUX.1). Without a shift_factor, the shift is 0 (SD, SDXL).

    FLUX.2 packs 2x2 cells into one cell with four times the channels, and its statistics are for packed latents:
    (B, C, h, w) becomes (B, 4 * C, h / 2, w / 2).

    Args:
        latents: float32 (B, C, ...).
        config: the model's config.

    Returns:
        A new float32 array.

    Raises:
        InputError: the model is FLUX.2, and h or w is odd.
        ConfigError: the model is FLUX.2, and its config has no statistics.
    """
    latents = packed_latents(latents, config)
    mean, factor = mean_and_factor(config, latents.ndim)
    return np.asarray((latents - mean) * factor, dtype=np.float32)


def unscale_latents(latents: Array, config: ModelConfig) -> Array:
    """Convert diffusion latents to model latents (the input of `decode`): the reverse of `scale_latents`.

    With `output_type="latent"`, some pipelines return diffusion latents, and some return model latents (LTX-2 and
    FLUX.2 Klein), which must not be unscaled. docs/reference/origins.md has a table.

    Raises:
        ConfigError: the model is FLUX.2, and its config has no statistics.
    """
    mean, factor = mean_and_factor(config, latents.ndim)
    unscaled = np.asarray(latents / factor + mean, dtype=np.float32)
    return unscaled if config.packing is None else unpacked_cells(unscaled, config.packing)


def packed_latents(latents: Array, config: ModelConfig) -> Array:
    """Pack latents as FLUX.2 does: (B, C, h, w) becomes (B, C * rows * columns, h / rows, w / columns).

    `config.packing` is (rows, columns). Packed channels are ordered by channel, then row, then column. Latents of a
    family without packing stay as they are.

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


def unpacked_cells(latents: Array, packing: tuple[int, int]) -> Array:
    """The reverse of `packed_latents`."""
    batch, _, height, width = latents.shape
    rows, columns = packing
    split = latents.reshape(batch, -1, rows, columns, height, width)
    unpacked = np.empty((batch, split.shape[1], height * rows, width * columns), np.float32)
    unpacked.reshape(batch, -1, height, rows, width, columns)[...] = split.transpose(0, 1, 4, 2, 5, 3)
    return unpacked


def mean_and_factor(config: ModelConfig, rank: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean that `scale_latents` subtracts, and the factor that it then multiplies with.

    Both are float64, per channel or one number for all channels, in a shape that broadcasts against latents (B, C,
    ...) of `rank` axes.

    Raises:
        ConfigError: the model is FLUX.2, and its config has no statistics.
    """
    if config.missing_statistics:
        raise ConfigError(f"config: {config.family} needs {' and '.join(config.missing_statistics)} to scale latents")
    scaling = np.float64(config.scaling_factor or 1.0)
    if config.latents_mean is not None and config.latents_std is not None:
        return _per_channel(config.latents_mean, rank), scaling / _per_channel(config.latents_std, rank)
    return np.asarray(config.shift_factor or 0.0), np.asarray(scaling)


def _per_channel(values: Sequence[float], rank: int) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64).reshape(1, -1, *[1] * (rank - 2))
