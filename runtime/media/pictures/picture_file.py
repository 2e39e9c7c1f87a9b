"""Reading and writing picture files as uint8 arrays in sRGB.

PNG, JPEG and WebP files are written. `media/endings.py` lists the formats that are read.
"""

import contextlib
import re
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, MediaError, OutputError
from ...extras import require
from ...system.partial_output import output_error, partial_output
from ..alpha import WHITE, Background, background_colour
from ..colours.profile import SRGB, icc_profile
from ..endings import FRAME_ENDINGS, PICTURE_FORMATS
from ..notes import note
from .picture_limits import check_picture_size
from .picture_pixels import MODES, upright_pixels

__all__ = [
    "PICTURE_ENDINGS",
    "PICTURE_FORMATS",
    "is_picture",
    "list_pictures",
    "natural_key",
    "opened_picture",
    "read_picture",
    "translated_damage",
    "write_picture",
]

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
"""The endings of pictures that are written."""

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_FIRST_BYTES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM")  # PNG, JPEG, TIFF (2), BMP
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
    ),
    struct.error,
)
_SETTINGS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},  # full chroma, because users look for the model's artefacts
    "WEBP": {"lossless": True, "exact": True},  # exact keeps the colours of transparent pixels
}


def read_picture(path: Path | str, channels: int = 3, *, background: Background = WHITE) -> NDArray[np.uint8]:
    """Read a picture as pixels in sRGB, turned upright by its EXIF or XMP orientation.

    The file's content decides its format, not its ending. Colours are converted to sRGB from the file's colour profile
    or tags (see `picture_colours.py`). Palette and gray pictures become RGB. 16 bits are rounded to 8. Of an animation,
    the first picture is read. The log notes each step that changes colours or leaves something out.

    Args:
        path: a file of one of `PICTURE_FORMATS`.
        channels: 3 for RGB, 4 for RGBA with straight alpha (opaque if the picture has no alpha), 1 for BT.601 luma.
        background: the colour behind transparent pixels, unless `channels` is 4: a name, "#rrggbb" or three integers.

    Returns:
        A new uint8 array (H, W, C) in [0, 255]. The caller owns it.

    Raises:
        InputError: `channels` is none of these, or `background` is no colour.
        MediaError: the file is missing, empty, truncated, too large or not such a picture.
        MissingExtra: Pillow is not installed.
    """
    if channels not in MODES:
        raise InputError(f"a picture can be read with 1, 3 or 4 channels, got {channels}: choose one of these")
    path, behind = Path(path), background_colour(background)
    with opened_picture(path) as image, translated_damage(path):
        _note_other_pictures(image, path)
        return upright_pixels(image, path, channels, behind, reopen=lambda: opened_picture(path))


@contextlib.contextmanager
def opened_picture(path: Path) -> Iterator[Any]:
    """Open a picture with Pillow, without decoding its pixels.

    Raises:
        MediaError: the file is missing, empty, damaged, too large or not a picture of `PICTURE_FORMATS`.
        MissingExtra: Pillow is not installed.
    """
    image_module = require("PIL.Image", extra="media")
    if not path.is_file():
        raise MediaError(f"{path} is not a file: give a picture, such as a PNG, JPEG, WebP or TIFF file")
    with translated_damage(path):
        image = image_module.open(path, formats=_openable(image_module))
    with image:
        yield image


@contextlib.contextmanager
def translated_damage(path: Path) -> Iterator[None]:
    """Turn the errors that Pillow raises on a damaged file into a `MediaError`, and hide Pillow's warnings."""
    image_module = require("PIL.Image", extra="media")
    try:
        with warnings.catch_warnings():
            # Pillow warns about bad metadata, and about large pictures well below the size that it refuses.
            warnings.simplefilter("ignore")
            yield
    except image_module.DecompressionBombError as error:
        raise MediaError(f"{path} is too large to open safely ({error}): make it smaller first") from error
    except image_module.UnidentifiedImageError as error:
        what = (
            "is empty"
            if path.stat().st_size == 0
            else "is not a picture of a format that is read (PNG, JPEG, WebP, TIFF, ...), or its head is damaged"
        )
        raise MediaError(f"{path} {what}: give another file") from error
    except MediaError as error:
        if str(path) in str(error):
            raise
        raise MediaError(f"{path} cannot be read: {error}") from error
    except _DAMAGE as error:
        raise MediaError(f"{path} cannot be read, so it is damaged or incomplete ({error}): replace it") from error


def is_picture(path: Path) -> bool:
    """Whether the first bytes of a file are those of a PNG, JPEG, TIFF, BMP, AVIF or WebP file. GIF does not count."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return False
    boxes = head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis")
    return boxes or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or head.startswith(_FIRST_BYTES)


def _note_other_pictures(image: Any, path: Path) -> None:
    """Note that only the first picture of a file is read."""
    if not getattr(image, "is_animated", False):
        return
    if image.format == "TIFF":  # Pillow would read all directories of the file to count its pages
        note(path, "pages", "has several pages: the first one is read, and the others are left out")
    else:
        note(path, "frames", f"holds {image.n_frames} pictures: the first one is read, {image.n_frames - 1} left out")


def write_picture(path: Path | str, pixels: NDArray[np.uint8], *, overwrite: bool = True) -> None:
    """Write pixels to a PNG, JPEG (quality 95) or lossless WebP file, whole or not at all.

    The ending of `path` chooses the format. The file is tagged as sRGB, except JPEG and WebP files of one channel.

    Args:
        path: the file. Its folder must exist.
        pixels: uint8 (H, W, C) in sRGB, with C = 1, 3 or 4. JPEG takes no 4. WebP stores 1 channel as 3 equal ones.
        overwrite: whether to replace an existing file.

    Raises:
        InputError: `pixels` is not such an array.
        OutputError: the ending is unknown, a side is too long for the format, the file exists and `overwrite` is false,
            or it cannot be written.
        MissingExtra: Pillow is not installed.
    """
    path = Path(path)
    name = _FORMATS.get(path.suffix.lower())
    if name is None:
        raise OutputError(f"cannot write {path} as a picture: end its name in {', '.join(PICTURE_ENDINGS)}")
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or 0 in pixels.shape:
        got = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise InputError(f"a picture must be a uint8 (H, W, C) array, got {got}: convert it first")
    if pixels.shape[2] not in ((1, 3) if name == "JPEG" else (1, 3, 4)):
        raise InputError(f"{path.name} cannot hold {pixels.shape[2]} channels: drop some, or write a PNG")
    check_picture_size(path, *pixels.shape[:2])
    image_module = require("PIL.Image", extra="media")
    flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    image = image_module.fromarray(np.ascontiguousarray(flat))
    with partial_output(path, overwrite=overwrite) as partial:
        try:
            image.save(partial, format=name, **_SETTINGS[name], **_srgb_tag(name, pixels.shape[2]))
        except (OSError, ValueError) as error:
            raise output_error(path, error) from error


def _srgb_tag(name: str, channels: int) -> dict[str, Any]:
    """The arguments of Pillow's `save` that tag a picture as sRGB."""
    if name == "PNG":
        chunks = require("PIL.PngImagePlugin", extra="media").PngInfo()
        chunks.add(b"sRGB", bytes(1))  # 0: perceptual intent
        return {"pnginfo": chunks}
    return {} if channels == 1 else {"icc_profile": icc_profile(SRGB)}  # a gray JPEG would need a gray profile


def list_pictures(folder: Path | str) -> list[Path]:
    """List the pictures in a folder that are frames of a clip, in natural order (frame2 before frame10).

    The endings decide. Hidden files and GIF files are left out.

    Raises:
        MediaError: `folder` is not a folder or cannot be listed.
    """
    folder = Path(folder)
    try:
        found = [
            entry
            for entry in folder.iterdir()
            if entry.suffix.lower() in FRAME_ENDINGS and not entry.name.startswith(".") and entry.is_file()
        ]
    except OSError as error:
        raise MediaError(f"{folder} is not a folder that can be listed ({error.strerror}): give a folder") from error
    return sorted(found, key=natural_key)


def natural_key(path: Path) -> tuple[list[int | str], str]:
    """The key for sorting files in natural order: frame2 before frame10."""
    parts = re.split(r"(\d+)", path.name.casefold())  # text and digits alternate, so lists compare text with text
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], path.name


def _openable(image_module: Any) -> list[str]:
    """The formats of `PICTURE_FORMATS` that this version of Pillow knows. Pillow refuses unknown names."""
    if any(name not in image_module.OPEN for name in PICTURE_FORMATS):
        image_module.init()  # registers the rare formats
    return [name for name in PICTURE_FORMATS if name in image_module.OPEN]
