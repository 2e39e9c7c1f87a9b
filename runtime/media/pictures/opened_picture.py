"""Opening a picture with Pillow, within limits, without decoding its pixels.

Pillow's own limit of pixels is a setting of the whole process, so it is neither used nor changed here: Pillow's parsers
of formats are called directly, as `PIL.Image.open` calls them.
"""

import contextlib
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import MediaError
from ...extras import require
from ...system.available_memory import available_bytes
from ...system.budget import memory_text
from ...system.file_kinds import not_the_wanted_kind
from ..endings import PICTURE_FORMATS
from .png_file import png_without_text

__all__ = ["MOST_PIXELS_UNASKED", "opened_picture", "translated_damage"]

MOST_PIXELS_UNASKED = 1 << 30
"""The most pixels of a picture that is read if the caller gives no limit."""

_ALWAYS_PIXELS = 178_956_970  # read without a look at the memory; Pillow's own limit
_BYTES_PER_PIXEL = 16  # the peak memory of reading 8 bits: measured as 12 for gray, 11 for RGB and 16 for RGBA
_BYTES_PER_DEEP_PIXEL = 42  # likewise for 16 bits, which are decoded twice: measured as 39 for RGB and 42 for RGBA
_PREFIX_BYTES = 16  # of the file, by which Pillow's parsers recognise their format
# The exceptions that Pillow raises on damaged files. They were found by changing bytes of files at random.
_DAMAGE = (
    *(
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        KeyError,
        TypeError,
        MemoryError,
        RuntimeError,
        ArithmeticError,
        AttributeError,
        AssertionError,
    ),
    struct.error,
)
_PICTURE_KINDS = ("png", "jpeg", "gif", "tiff", "webp", "avif", "jp2", "qoi", "bmp", "empty", "zeros")


@contextlib.contextmanager
def opened_picture(path: Path, max_pixels: int | None = None) -> Iterator[Any]:
    """Open a picture with Pillow, without decoding its pixels. Texts in PNG files are left out.

    Args:
        path: the file.
        max_pixels: the most pixels that the picture may have. None allows 179 million, and more, up to 2**30, if
            reading them fits into the available memory.

    Raises:
        MediaError: the file is missing, empty, damaged, too large or not a picture of `PICTURE_FORMATS`.
        MissingExtra: Pillow is not installed.
    """
    image_module = require("PIL.Image", extra="media")
    if not path.is_file():
        raise MediaError(f"{path} is not a file: give a picture, such as a PNG, JPEG, WebP or TIFF file")
    with contextlib.ExitStack() as stack:
        with translated_damage(path):
            whole = stack.enter_context(path.open("rb"))
            file = stack.enter_context(png_without_text(whole))
            image = stack.enter_context(_identified(image_module, path, file))
        _check_size(path, image, max_pixels)
        yield image


@contextlib.contextmanager
def translated_damage(path: Path) -> Iterator[None]:
    """Turn the errors that Pillow raises on a damaged file into a `MediaError`, and hide Pillow's warnings."""
    try:
        with warnings.catch_warnings():
            # Pillow warns about bad metadata.
            warnings.simplefilter("ignore")
            yield
    except require("PIL.Image", extra="media").DecompressionBombError as error:  # of some parsers, at any `max_pixels`
        raise MediaError(f"{path} is too large to open safely ({error}): make it smaller first") from error
    except MediaError as error:
        if str(path) in str(error):
            raise
        raise MediaError(f"{path} cannot be read: {error}") from error
    except _DAMAGE as error:
        raise MediaError(f"{path} cannot be read, so it is damaged or incomplete ({error}): replace it") from error


def _identified(image_module: Any, path: Path, file: BinaryIO) -> Any:
    """The picture by the first of Pillow's parsers that recognises the file."""
    if any(name not in image_module.OPEN for name in PICTURE_FORMATS):
        image_module.init()  # registers the rare formats
    prefix = file.read(_PREFIX_BYTES)
    for name in PICTURE_FORMATS:
        if name not in image_module.OPEN:  # another version of Pillow
            continue
        factory, accept = image_module.OPEN[name]
        try:
            accepted = accept is None or accept(prefix)
            if not accepted or isinstance(accepted, str):  # a text is a warning about a missing decoder
                continue
            file.seek(0)
            return factory(file, str(path))
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue
    sentence = not_the_wanted_kind(path, "a picture, such as a PNG, JPEG, WebP or TIFF file", _PICTURE_KINDS)
    if sentence is not None:
        raise MediaError(sentence)
    what = (
        "is empty"
        if path.stat().st_size == 0
        else "is not a picture of a format that is read (PNG, JPEG, WebP, TIFF, ...), or its head is damaged"
    )
    raise MediaError(f"{path} {what}: give another file")


def _check_size(path: Path, image: Any, max_pixels: int | None) -> None:
    pixels = image.width * image.height
    size = f"{path} is {image.width} pixels wide and {image.height} high"
    if max_pixels is not None:
        if pixels > max_pixels:
            raise MediaError(
                f"{size}, too large for the limit of {max_pixels} pixels: raise max_pixels (--max-pixels) to {pixels}, "
                f"or make it smaller first"
            )
        return
    if pixels <= _ALWAYS_PIXELS:
        return
    if pixels > MOST_PIXELS_UNASKED:
        raise MediaError(
            f"{size}, too large to read unasked: allow it with max_pixels={pixels} (--max-pixels {pixels}), or make it "
            f"smaller first"
        )
    deep = image.mode.startswith("I") or any("16" in str(tile[3]) for tile in image.tile)
    needed = pixels * (_BYTES_PER_DEEP_PIXEL if deep else _BYTES_PER_PIXEL)
    available = available_bytes()
    if needed > available:
        raise MediaError(
            f"{size}, too large for the memory: reading it takes about {memory_text(needed, up=True)}, and "
            f"{memory_text(available)} are available; make it smaller first, or allow it with max_pixels={pixels} "
            f"(--max-pixels {pixels})"
        )
