"""The samples of an opened picture, from every mode and depth that Pillow opens, rounded to 8 bits.

Pillow decodes 16-bit colour pictures to 8 bits: it keeps the high byte of each sample and drops the low byte. But its
unpackers exist for both byte orders, and the unpacker of the other byte order keeps the low byte. So such a picture is
decoded twice, and the two bytes make the exact sample.

In names, "deep" means 16 bits per sample.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError
from ...extras import require

__all__ = ["Samples", "loaded_samples"]

_OTHER_ORDER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}  # little, big and native
_DEEP_KINDS = ("RGB", "RGBX", "RGBA", "RGBa", "CMYK")  # of Pillow's raw modes
_GRAY_ALPHA = "LA;16B"  # two samples of two bytes, which are read at once as the four bands of an RGBA picture
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_PLANES = 258, 262, 284  # TIFF tags
_WHITE_IS_ZERO, _SEPARATE_PLANES = 0, 2  # values of these tags
_OPAQUE = 65535


@dataclass(frozen=True, eq=False)
class Samples:
    """A picture's samples before its colours are converted.

    Attributes:
        image: a Pillow image in mode L, RGB, CMYK or LAB, in the picture's colour space.
        alpha: straight alpha, uint8 (H, W). None if the picture has no transparency.
        deep: the samples of `image` in 16 bits, uint16 (H, W, C). None if the picture has 8 bits.
    """

    image: Any
    alpha: NDArray[np.uint8] | None = None
    deep: NDArray[np.uint16] | None = None


def loaded_samples(image: Any, reopen: Callable[[], Any] | None = None) -> Samples:
    """Decode an opened Pillow image.

    Args:
        image: the image, which must not be loaded yet.
        reopen: opens the same image again, to read 16-bit colour. If None, Pillow's 8 bits are used.

    Raises:
        MediaError: the file does not say which sample is white, or Pillow misreads its layout.
        Exception: an exception of Pillow for damaged files.
    """
    deep = _deep_colour(image, reopen) if reopen is not None else None
    if deep is not None:
        return deep
    image.load()
    return _deep_gray(image) if image.mode.startswith("I") else _from_shallow(image)


def _from_shallow(image: Any) -> Samples:
    mode = image.mode
    if mode == "F":
        raise MediaError("its samples are floats, and the file does not say which is white: save it with 8 or 16 bits")
    if mode == "La":
        image, mode = image.convert("LA"), "LA"
    palette_alpha = mode == "P" and image.palette is not None and image.palette.mode.endswith("A")
    if mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info or palette_alpha:
        whole = image if mode == "RGBA" else image.convert("RGBA")
        alpha = np.array(whole.getchannel("A"))
        return Samples(whole.getchannel("R") if mode in ("1", "L", "LA") else whole.convert("RGB"), alpha)
    if mode in ("L", "RGB", "CMYK", "LAB"):
        return Samples(image)
    return Samples(image.convert("L" if mode == "1" else "RGB"))


def _deep_colour(image: Any, reopen: Callable[[], Any]) -> Samples | None:
    """Decode 16-bit colour, or 16-bit gray with alpha. None for other pictures, which are not loaded."""
    raw = _raw_mode(image)
    tags = getattr(image, "tag_v2", {})
    if tags.get(_TIFF_PLANES) == _SEPARATE_PLANES and max(tags.get(_TIFF_BITS, (8,))) > 8:
        raise MediaError("its 16-bit channels are stored in separate planes: save them interleaved")
    if raw == _GRAY_ALPHA:
        _set_raw_mode(image, "RGBA")
        image.load()
        both = np.array(image).view(">u2").astype(np.uint16)
        return _deep_samples("L", both[..., :1], _rounded(both[..., 1]))
    kind, _, order = raw.partition(";16")
    if kind not in _DEEP_KINDS or order not in _OTHER_ORDER:
        return None
    wanted = "RGBA" if kind == "RGBa" else kind  # for RGBa, Pillow would divide by the high byte of alpha
    with reopen() as again:
        _set_raw_mode(again, f"{wanted};16{_OTHER_ORDER[order]}")
        _set_raw_mode(image, f"{wanted};16{order}")
        image.load()
        again.load()
        deep = np.asarray(image).astype(np.uint16)
        deep <<= 8
        deep |= np.asarray(again)
    if image.mode != "RGBA":
        return _deep_samples(image.mode, deep, _keyed_alpha(deep, image))
    colour, alpha = deep[..., :3], deep[..., 3]
    return _deep_samples("RGB", _straight(colour, alpha) if kind == "RGBa" else colour, _rounded(alpha))


def _deep_gray(image: Any) -> Samples:
    """The samples of a loaded gray picture of 12 or 16 bits."""
    values = np.asarray(image)
    if image.format == "TIFF":
        if image.mode == "I":
            raise MediaError("its gray is signed or has 32 bits, so its white is not known: save it with 8 or 16 bits")
        most = (1 << image.tag_v2.get(_TIFF_BITS, (16,))[0]) - 1
        values = (values.astype(np.uint32) * _OPAQUE + most // 2) // most  # Pillow does not scale 12 bits to 16
        if image.tag_v2.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow inverts pictures of 8 bits and not of 16
            values = _OPAQUE - values
    gray = np.clip(values, 0, _OPAQUE).astype(np.uint16)[..., np.newaxis]
    return _deep_samples("L", gray, _keyed_alpha(gray, image))


def _keyed_alpha(deep: NDArray[np.uint16], image: Any) -> NDArray[np.uint8] | None:
    """The alpha of a picture in which one 16-bit colour means transparent (PNG's tRNS). None if there is none."""
    key = image.info.get("transparency")
    return None if key is None else np.where((deep == np.array(key)).all(axis=2), 0, 255).astype(np.uint8)


def _deep_samples(mode: str, deep: NDArray[np.uint16], alpha: NDArray[np.uint8] | None) -> Samples:
    pixels = _rounded(deep)
    image = require("PIL.Image", extra="media").frombytes(mode, (pixels.shape[1], pixels.shape[0]), pixels.tobytes())
    return Samples(image, alpha, deep)


def _straight(colour: NDArray[np.uint16], alpha: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Straight colours from colours that are premultiplied with alpha."""
    wide = alpha.astype(np.uint32)[..., np.newaxis]
    divided = (colour.astype(np.uint32) * _OPAQUE + wide // 2) // np.maximum(wide, 1)
    straight: NDArray[np.uint16] = np.minimum(divided, _OPAQUE).astype(np.uint16)
    return straight


def _rounded(deep: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """16-bit samples rounded to 8 bits: v * 255 / 65535, which is v / 257."""
    rounded: NDArray[np.uint8] = ((deep.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return rounded


def _raw_mode(image: Any) -> str:
    """The raw mode of a Pillow image that is not loaded yet: the layout of its stored samples. "" if there is none."""
    if not image.tile:
        return ""
    arguments = image.tile[0][3]
    first = arguments if isinstance(arguments, str) or not arguments else arguments[0]
    return first if isinstance(first, str) else ""


def _set_raw_mode(image: Any, raw: str) -> None:
    """Let Pillow decode the image with another raw mode."""
    tiles = []
    for tile in image.tile:
        arguments = raw if isinstance(tile[3], str) else (raw, *tile[3][1:])
        make = getattr(tile, "_make", tuple)  # a named tuple since Pillow 11
        tiles.append(make((*tile[:3], arguments)))
    image.tile = tiles
