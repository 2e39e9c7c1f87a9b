"""Pictures in and out, as uint8 arrays in sRGB. They are written as PNG, JPEG and WebP; `media_endings` lists what is
read."""

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
"""Of pictures that are written."""

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM")
# What Pillow raises on damaged files; found by changing bytes at random.
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
    "JPEG": {"quality": 95, "subsampling": 0},  # full chroma: these files are looked at for artefacts
    "WEBP": {"lossless": True, "exact": True},  # exact keeps the colour of transparent pixels
}


def read_picture(path: Path | str, channels: int = 3, *, background: Background = WHITE) -> NDArray[np.uint8]:
    """Read a picture as uint8 (H, W, C) in [0, 255] and in sRGB, turned upright by its EXIF or XMP orientation.

    The file's content decides its format, not its ending. Colours are converted to sRGB from the colour profile or
    tags of the file: see `picture_colours`. Palette and gray pictures become RGB, and 16 bits are rounded to 8.
    4 channels keep alpha (straight, and opaque where the picture has none). 3 and 1 channels have transparent pixels
    composited on `background`; 1 channel then takes BT.601 luma. An animation gives its first picture. Each of these
    that changes colours or leaves something out is said in one line of the log. The caller owns the array.

    Args:
        path: a file of one of `PICTURE_FORMATS`.
        channels: 3 for RGB, 4 for RGBA, 1 for gray.
        background: the colour behind transparent pixels, by a name, "#rrggbb" or three integers.

    Raises:
        InputError: `channels` is none of these, or `background` is no colour.
        MediaError: the file is missing, empty, truncated, too large or not such a picture.
        MissingExtra: Pillow is not installed.
    """
    if channels not in MODES:
        raise InputError(f"a picture can be read with 1, 3 or 4 channels, got {channels}: choose one of these")
    path, behind = Path(path), background_colour(background)
    with opened_picture(path) as image, translated_damage(path):
        _note_others(image, path)
        return upright_pixels(image, path, channels, behind, reopen=lambda: opened_picture(path))


@contextlib.contextmanager
def opened_picture(path: Path) -> Iterator[Any]:
    """Open a picture with Pillow, its pixels not decoded yet.

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
    """Turn what Pillow raises on a damaged file into a `MediaError` of one sentence; its warnings are not shown."""
    image_module = require("PIL.Image", extra="media")
    try:
        with warnings.catch_warnings():
            # Pillow warns about bad metadata and about large pictures well before it refuses them.
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
    """Whether a file starts as a picture that is no GIF does, whatever its ending is."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return False
    boxes = head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis")
    return boxes or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or head.startswith(_STARTS)


def _note_others(image: Any, path: Path) -> None:
    """Say that a file holds more than the picture that is read."""
    if not getattr(image, "is_animated", False):
        return
    if image.format == "TIFF":  # counting its pages would read all of its directories
        note(path, "pages", "has several pages: the first one is read, and the others are left out")
    else:
        note(path, "frames", f"holds {image.n_frames} pictures: the first one is read, {image.n_frames - 1} left out")


def write_picture(path: Path | str, pixels: NDArray[np.uint8], *, overwrite: bool = True) -> None:
    """Write pixels to a PNG, JPEG (quality 95) or lossless WebP file, by the ending of `path`; whole or not at all.

    The file is tagged as sRGB, except for gray JPEG, whose profiles would need to be gray.

    Args:
        path: where to; its folder must exist.
        pixels: sRGB, uint8 (H, W, C) with C = 1, 3 or 4; JPEG takes no 4, and WebP gives 1 back as 3 equal ones.
        overwrite: whether an existing file is replaced.

    Raises:
        InputError: `pixels` is not such an array.
        OutputError: the ending is unknown, the file exists and may not be replaced, or writing fails.
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
    image_module = require("PIL.Image", extra="media")
    flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    image = image_module.fromarray(np.ascontiguousarray(flat))
    with partial_output(path, overwrite=overwrite) as partial:
        try:
            image.save(partial, format=name, **_SETTINGS[name], **_srgb_tag(name, pixels.shape[2]))
        except (OSError, ValueError) as error:
            raise output_error(path, error) from error


def _srgb_tag(name: str, channels: int) -> dict[str, Any]:
    """Arguments for Pillow's `save` that tag a picture as sRGB."""
    if name == "PNG":
        chunks = require("PIL.PngImagePlugin", extra="media").PngInfo()
        chunks.add(b"sRGB", bytes(1))  # perceptual intent
        return {"pnginfo": chunks}
    return {} if channels == 1 else {"icc_profile": icc_profile(SRGB)}


def list_pictures(folder: Path | str) -> list[Path]:
    """The frames of a clip in a folder: pictures by their endings, in natural order (frame2 before frame10), without
    hidden files and GIFs.

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
        raise MediaError(f"{folder} is not a folder that can be listed ({error.strerror}): give another") from error
    return sorted(found, key=natural_key)


def natural_key(path: Path) -> tuple[list[int | str], str]:
    """A sorting key by which frame2 comes before frame10."""
    parts = re.split(r"(\d+)", path.name.casefold())  # text and digits take turns, so a list compares like with like
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], path.name


def _openable(image_module: Any) -> list[str]:
    """Those of `PICTURE_FORMATS` that this version of Pillow knows: it refuses the name of another one."""
    if any(name not in image_module.OPEN for name in PICTURE_FORMATS):
        image_module.init()  # the rare formats register only then
    return [name for name in PICTURE_FORMATS if name in image_module.OPEN]
