"""Scaling pictures and frames down to a largest side."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...extras import require

__all__ = ["downscaled", "fitted_size"]


def fitted_size(height: int, width: int, largest_side: int) -> tuple[int, int]:
    """The height and width, in pixels, after scaling down so that neither exceeds `largest_side`."""
    scale = min(1.0, largest_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def downscaled(planes: NDArray[Any], largest_side: int) -> NDArray[Any]:
    """Scale planes down to `largest_side` with Pillow's Lanczos filter.

    Args:
        planes: uint8 or float32, (..., H, W). Each plane is filtered separately.
        largest_side: the largest height or width of the result, in pixels.

    Returns:
        A new array in which no value of a plane exceeds the source plane's range. If the planes are small enough,
        `planes` itself.

    Raises:
        MissingExtra: Pillow is not installed.
    """
    height, width = fitted_size(planes.shape[-2], planes.shape[-1], largest_side)
    if (height, width) == planes.shape[-2:]:
        return planes
    pillow = require("PIL.Image", extra="media")
    out = np.empty((*planes.shape[:-2], height, width), planes.dtype)
    for index in np.ndindex(planes.shape[:-2]):
        plane = np.ascontiguousarray(planes[index])
        resized = pillow.fromarray(plane).resize((width, height), pillow.Resampling.LANCZOS)
        # Lanczos overshoots at edges, and Pillow does not clip float32 planes.
        np.clip(np.asarray(resized), plane.min(), plane.max(), out=out[index])
    return out
