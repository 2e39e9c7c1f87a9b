"""Transparent pixels: what colour they have where a model takes no alpha."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["composite"]


def composite(pixels: NDArray[np.uint8], background: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Blend pixels over a background colour, in code values as browsers and Pillow do.

    Args:
        pixels: uint8 (..., 4), RGBA with straight alpha.
        background: red, green and blue, each 0 to 255.

    Returns:
        Fresh uint8 (..., 3), rounded to the nearest value.
    """
    alpha = pixels[..., 3:].astype(np.uint32)
    blended = pixels[..., :3] * alpha + np.asarray(background, np.uint32) * (255 - alpha)
    return ((blended + 127) // 255).astype(np.uint8)
