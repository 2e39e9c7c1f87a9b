"""Latents that pipelines of FLUX give: a row of tokens, (B, h/2 * w/2, 4 * C), each with 2x2 cells of all channels.

FLUX.1 packs cells by `_pack_latents`. Channels are ordered by channel, then row, then column of the cell. FLUX.2's
tokens hold the channels of its diffusion latents. In both, tokens are in the order of rows: the position ids that
FLUX.2's pipeline gives with them are those of a full picture, row by row.
"""

import numpy as np
from numpy.typing import NDArray

from ..config.model_config import ModelConfig
from ..errors import InputError

__all__ = ["is_packed", "unpacked_latents"]

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
        square = f", such as {root * side} and {root * side}" if root * root == tokens else ""
        raise InputError(
            f"{packed}: give the height and width in pixels that the pipeline was asked for{square}, because another "
            f"size has as many tokens"
        )
    rows, columns = height // side, width // side
    if rows * columns != tokens:
        raise InputError(
            f"{packed}: a picture {width} pixels wide and {height} high has {rows * columns} tokens; give the height "
            f"and width that the pipeline was asked for"
        )
    if config.packing is not None:
        return np.ascontiguousarray(latents.reshape(batch, rows, columns, channels).transpose(0, 3, 1, 2))
    cells = latents.reshape(batch, rows, columns, channels // _CELLS**2, _CELLS, _CELLS)
    return np.ascontiguousarray(cells.transpose(0, 3, 1, 4, 2, 5)).reshape(
        batch, channels // _CELLS**2, rows * _CELLS, columns * _CELLS
    )
