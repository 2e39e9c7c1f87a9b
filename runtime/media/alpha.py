"""Transparency: blending pixels over a background colour, for models without an alpha channel."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..extras import require

__all__ = ["WHITE", "Background", "background_colour", "composite"]

Background = str | Sequence[int]
"""A background colour: see `background_colour`."""

WHITE = (255, 255, 255)
"""The default background. Viewers and most converters to JPEG show transparent pixels on white."""

_BAND_PIXELS = 1 << 18  # blended at a time, so that temporary arrays stay small


def composite(pixels: NDArray[np.uint8], background: Sequence[int] = WHITE) -> NDArray[np.uint8]:
    """Blend pixels with straight alpha over one colour.

    As in Pillow and browsers, sRGB code values are blended without converting them to light. The result is rounded to
    the nearest value.

    Args:
        pixels: uint8 (..., H, W, 4), RGBA with straight (not premultiplied) alpha.
        background: red, green and blue in [0, 255].

    Returns:
        A fresh uint8 array (..., H, W, 3).
    """
    blended = np.empty((*pixels.shape[:-1], 3), np.uint8)
    flat, into = pixels.reshape(-1, 4), blended.reshape(-1, 3)
    for start in range(0, len(flat), _BAND_PIXELS):
        band = flat[start : start + _BAND_PIXELS]
        alpha = band[:, 3].astype(np.uint16)
        for channel, behind in enumerate(background):
            # The total is at most 255 * 255 + 127, which fits uint16.
            total = band[:, channel] * alpha + np.uint16(behind) * (np.uint16(255) - alpha)
            into[start : start + _BAND_PIXELS, channel] = (total + np.uint16(127)) // np.uint16(255)
    return blended


def background_colour(background: Background) -> tuple[int, int, int]:
    """Check a background and return its red, green and blue in [0, 255].

    Args:
        background: a colour as Pillow's `ImageColor` reads it ("white", "#80ff00", "rgb(0, 128, 255)"), or three
            integers.

    Raises:
        InputError: it is no opaque colour.
        MissingExtra: it is text and Pillow is not installed.
    """
    wanted = 'give an opaque colour such as "white" or "#80ff00", or three integers from 0 to 255'
    if background == "white":  # the command line's default; arrays can be encoded without Pillow
        return WHITE
    if isinstance(background, str):
        try:
            parts: Sequence[int] = require("PIL.ImageColor", extra="media").getrgb(background.strip())
        except ValueError as error:
            raise InputError(f"{background[:40]!r} is no background colour: {wanted}") from error
    else:
        parts = background
    if len(parts) != 3 or not all(isinstance(part, int | np.integer) and 0 <= part <= 255 for part in parts):
        raise InputError(f"{str(background)[:40]!r} is no background colour: {wanted}")
    return int(parts[0]), int(parts[1]), int(parts[2])
