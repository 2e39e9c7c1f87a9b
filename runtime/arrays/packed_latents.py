"""Latents that pipelines of FLUX give: a row of tokens, (B, h/2 * w/2, 4 * C), each with 2x2 cells of all channels.

FLUX.1 packs cells by `_pack_latents`. Channels are ordered by channel, then row, then column of the cell. FLUX.2's
tokens hold the channels of its diffusion latents. In both, tokens are in the order of rows: the position ids that
FLUX.2's pipeline gives with them are those of a full picture, row by row.
"""

import numpy as np
from numpy.typing import NDArray

from ...tiling.argument_names import argument
from ..config.model_config import ModelConfig
from ..errors import InputError

__all__ = ["is_packed", "token_rows", "tokens_of", "unpacked_latents"]

_CELLS = 2  # rows and columns of the latent cells in a token


def is_packed(
    latents: NDArray[np.floating], config: ModelConfig, height: int | None = None, width: int | None = None
) -> bool:
    """Whether an array is a row of tokens for this model, rather than latents without the axis of the batch.

    An array that can be both, (16, 64, 64) for FLUX.1, counts as latents of one picture, unless the height and width in
    pixels are given and have as many tokens.
    """
    if config.video or latents.ndim != 3 or latents.shape[2] != config.latent_channels * _CELLS**2:
        return False
    side = config.spatial_ratio * _CELLS
    if height is not None and width is not None and (height // side) * (width // side) == latents.shape[1]:
        return True
    return latents.shape[0] not in (config.latent_channels, config.diffusion_channels)


def unpacked_latents(
    latents: NDArray[np.float32], config: ModelConfig, height: int | None, width: int | None
) -> NDArray[np.float32]:
    """The diffusion latents in a row of tokens, as `unscale_latents` takes them.

    Args:
        latents: float32 (B, tokens, 4 * C).
        config: the model's config.
        height: the height that the pipeline was asked for, in pixels. As in the pipelines, it is rounded down.
        width: the width, likewise.

    Returns:
        float32 (B, C, h, w), or (B, 4 * C, h / 2, w / 2) for FLUX.2: a new array.

    Raises:
        InputError: the size is missing, or has another number of tokens.
    """
    batch, tokens, channels = latents.shape
    side = config.spatial_ratio * _CELLS
    packed = f"packed latents {latents.shape}, {tokens} tokens of {side}x{side} pixels from a FLUX pipeline"
    if height is None or width is None:
        root = round(tokens**0.5)
        square = f", such as {root * side}x{root * side}" if root * root == tokens else ""
        raise InputError(
            f"{packed}: give {argument('size')}, the height and width in pixels that the pipeline was asked for"
            f"{square}, because another size has as many tokens"
        )
    rows, columns = height // side, width // side
    if rows * columns != tokens:
        raise InputError(
            f"{packed}: a picture of {height}x{width} pixels has {rows * columns} tokens; give {argument('size')}, the "
            f"height and width that the pipeline was asked for"
        )
    if config.packing is not None:
        return np.ascontiguousarray(latents.reshape(batch, rows, columns, channels).transpose(0, 3, 1, 2))
    cells = latents.reshape(batch, rows, columns, channels // _CELLS**2, _CELLS, _CELLS)
    return np.ascontiguousarray(cells.transpose(0, 3, 1, 4, 2, 5)).reshape(
        batch, channels // _CELLS**2, rows * _CELLS, columns * _CELLS
    )


def tokens_of(latents: NDArray[np.float32], config: ModelConfig) -> NDArray[np.float32]:
    """The reverse of `unpacked_latents`: diffusion latents as a row of tokens.

    Args:
        latents: float32 (B, C, h, w), or (B, 4 * C, h / 2, w / 2) for FLUX.2.
        config: the model's config.

    Returns:
        float32 (B, tokens, 4 * C): a new array.

    Raises:
        InputError: h or w is odd.
    """
    if config.packing is not None:
        return token_rows(latents)
    batch, channels, height, width = latents.shape
    if height % _CELLS or width % _CELLS:
        side = config.spatial_ratio * _CELLS
        raise InputError(
            f"latents: a token holds {_CELLS}x{_CELLS} cells, so height and width must be even, got ({height}, "
            f"{width}); make the picture a multiple of {side} pixels high and wide"
        )
    split = latents.reshape(batch, channels, height // _CELLS, _CELLS, width // _CELLS, _CELLS)
    return token_rows(split.transpose(0, 1, 3, 5, 2, 4).reshape(batch, -1, height // _CELLS, width // _CELLS))


def token_rows(latents: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cells (B, C, h, w) as a row of tokens (B, h * w, C), row by row: a new array."""
    batch, channels, height, width = latents.shape
    return np.ascontiguousarray(latents.reshape(batch, channels, height * width).transpose(0, 2, 1))
