"""Conversion of an opened picture to upright pixels in sRGB with the channels that a model takes."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...extras import require
from ..alpha import composite
from ..notes import note
from .exif import Exif
from .picture_colours import to_srgb
from .picture_samples import loaded_samples

__all__ = ["MODES", "upright_pixels"]

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's mode for each number of channels that a picture can be read with."""

_BAND_PIXELS = 1 << 18  # blended at a time
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:\s*=\s*[\"']|>)\s*([1-8])")


def upright_pixels(
    image: Any,
    path: Path,
    channels: int,
    background: Sequence[int],
    reopen: Callable[[], Any] | None = None,
) -> NDArray[np.uint8]:
    """Decode an opened Pillow image to upright pixels in sRGB.

    Args:
        image: the opened image.
        path: its file, for notes and for tags that Pillow does not read.
        channels: 1 for BT.601 luma, 3 for RGB, 4 for RGBA with straight alpha.
        background: red, green and blue in [0, 255]. With 1 or 3 channels, transparent pixels are blended over it.
        reopen: see `loaded_samples`.

    Returns:
        A new uint8 array (H, W, C). The caller owns it.

    Raises:
        MediaError: the range of the samples is not known.
        Exception: an exception of Pillow for damaged files.
    """
    samples = loaded_samples(image, reopen)
    colour = to_srgb(samples, image, path)
    alpha = samples.alpha
    if channels == 4:
        pixels = np.full((colour.height, colour.width, 4), 255, np.uint8)
        pixels[..., :3] = _array(colour, "RGB")
        if alpha is not None:
            pixels[..., 3] = alpha
    elif alpha is not None and alpha.min() < 255:
        colour_text = "#" + "".join(f"{part:02x}" for part in background)
        note(path, "transparent", f"has transparent pixels: composited on the background {colour_text}")
        pixels = _array(colour, "RGB")
        band = max(1, _BAND_PIXELS // pixels.shape[1])
        for top in range(0, len(pixels), band):  # in place and in bands, because pictures may be large
            rows = slice(top, top + band)
            pixels[rows] = composite(np.dstack([pixels[rows], alpha[rows]]), background)
        if channels == 1:
            pixels = _array(require("PIL.Image", extra="media").fromarray(pixels), "L")
    else:
        pixels = _array(colour, MODES[channels])
    return _turned(pixels, _orientation(image, path))


def _array(image: Any, mode: str) -> NDArray[np.uint8]:
    array = np.array(image if image.mode == mode else image.convert(mode), dtype=np.uint8)
    return array[..., np.newaxis] if mode == "L" else array


def _orientation(image: Any, path: Path) -> int:
    """The orientation by EXIF's numbers, 1 to 8, from EXIF or else from XMP.

    Pillow turns TIFF pictures upright when it loads them.
    """
    exif = Exif.of(image)
    if exif.damaged:
        note(path, "exif", "has EXIF data that cannot be read: they are left out")
    orientation = exif.orientation
    if orientation is None and image.format != "TIFF":
        xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
        match = _XMP_ORIENTATION.search(xmp if isinstance(xmp, bytes) else str(xmp).encode("utf-8", "replace"))
        orientation = int(match[1]) if match else 1
    return orientation if orientation is not None and 1 <= orientation <= 8 else 1


def _turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn pixels upright, by their EXIF orientation: 2 to 4 mirror and turn, 5 to 8 also swap the axes."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
