"""Pictures in and out, as uint8 arrays. They are written as PNG, JPEG and WebP; `media_endings` lists what is read."""

import re
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, MediaError, OutputError
from .extras import require
from .media_endings import FRAME_ENDINGS, PICTURE_FORMATS
from .partial_output import output_error, partial_output

__all__ = ["PICTURE_ENDINGS", "list_pictures", "natural_key", "read_picture", "write_picture"]

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
"""Of pictures that are written."""

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# What Pillow raises on damaged files; found by changing bytes at random.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, MemoryError, struct.error)
_SETTINGS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},  # full chroma: these files are looked at for artefacts
    "WEBP": {"lossless": True, "exact": True},  # exact keeps the colour of transparent pixels
}


def read_picture(path: Path | str, channels: int = 3) -> NDArray[np.uint8]:
    """Read a picture as uint8 (H, W, C) in [0, 255], turned upright by its EXIF orientation.

    The file's content decides its format, not its ending. Palette, gray, CMYK and 16-bit pictures (rounded to
    8 bits) are converted; 3 channels drop alpha without blending, 4 channels add an opaque one, 1 channel
    takes BT.601 luma. Colour profiles are not applied. An animation gives its first picture. The caller owns
    the array.

    Args:
        path: a file of one of `PICTURE_FORMATS`.
        channels: 3 for RGB, 4 for RGBA, 1 for gray.

    Raises:
        InputError: `channels` is none of these.
        MediaError: the file is missing, empty, truncated, too large or not such a picture.
        MissingExtra: Pillow is not installed.
    """
    if channels not in _MODES:
        raise InputError(f"a picture can be read with 1, 3 or 4 channels, got {channels}: choose one of these")
    path = Path(path)
    image_module = require("PIL.Image", extra="media")
    image_ops = require("PIL.ImageOps", extra="media")
    if not path.is_file():
        raise MediaError(f"{path} is not a file: give a picture, such as a PNG, JPEG, WebP or TIFF file")
    try:
        with warnings.catch_warnings():
            # Pillow warns about bad metadata and about large pictures well before it refuses them.
            warnings.simplefilter("ignore")
            with image_module.open(path, formats=_openable(image_module)) as image:
                image.load()
                return _pixels(image_ops.exif_transpose(image), channels)
    except image_module.DecompressionBombError as error:
        raise MediaError(f"{path} is too large to open safely ({error}): make it smaller first") from error
    except image_module.UnidentifiedImageError as error:
        what = (
            "is empty"
            if path.stat().st_size == 0
            else "is not a picture of a format that is read (PNG, JPEG, WebP, TIFF, ...), or its head is damaged"
        )
        raise MediaError(f"{path} {what}: give another file") from error
    except _DAMAGE as error:
        raise MediaError(f"{path} cannot be read, so it is damaged or incomplete ({error}): replace it") from error


def write_picture(path: Path | str, pixels: NDArray[np.uint8], *, overwrite: bool = True) -> None:
    """Write pixels to a PNG, JPEG (quality 95) or lossless WebP file, by the ending of `path`; whole or not at all.

    Args:
        path: where to; its folder must exist.
        pixels: uint8 (H, W, C) with C = 1, 3 or 4; JPEG takes no 4, and WebP gives 1 back as 3 equal ones.
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
            image.save(partial, format=name, **_SETTINGS[name])
        except (OSError, ValueError) as error:
            raise output_error(path, error) from error


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


def _pixels(image: Any, channels: int) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):  # 16-bit gray; Pillow's own conversion would clip it at 255
        wide = np.asarray(image).astype(np.uint32)
        gray = ((np.minimum(wide, 65535) + 128) // 257).astype(np.uint8)[..., np.newaxis]
        if channels == 1:
            return gray
        pixels = np.full((*gray.shape[:2], channels), 255, np.uint8)
        pixels[..., :3] = gray
        return pixels
    mode = _MODES[channels]
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    array = np.array(image if image.mode == mode else image.convert(mode), dtype=np.uint8)
    return array[..., np.newaxis] if channels == 1 else array
