"""Reading and writing picture files as uint8 arrays in sRGB.

PNG, JPEG and WebP files are written. `media/endings.py` lists the formats that are read.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....tiling.public_place import shown_in
from ...errors import InputError, MediaError, OutputError
from ...extras import require
from ...system.outputs.partial_output import output_error, partial_output
from ..alpha import WHITE, Background, background_colour
from ..colours.profile import SRGB, icc_profile
from ..endings import FRAME_ENDINGS, PICTURE_FORMATS
from ..notes import note
from .opened_picture import opened_picture, translated_damage
from .picture_limits import check_picture_size
from .picture_pixels import MODES, upright_pixels

__all__ = [
    "PICTURE_ENDINGS",
    "PICTURE_FORMATS",
    "list_pictures",
    "natural_key",
    "read_picture",
    "write_picture",
]

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
"""The endings of pictures that are written."""

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_SETTINGS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},  # full chroma, because users look for the model's artefacts
    "WEBP": {"lossless": True, "exact": True},  # exact keeps the colours of transparent pixels
}


@shown_in("latentrt.runtime")
def read_picture(
    path: Path | str, channels: int = 3, *, background: Background = WHITE, max_pixels: int | None = None
) -> NDArray[np.uint8]:
    """Read a picture as pixels in sRGB, turned upright by its EXIF or XMP orientation.

    The file's content decides its format, not its ending. Colours are converted to sRGB from the file's colour profile
    or tags (see `picture_colours.py`). Palette and gray pictures become RGB. 16 bits are rounded to 8. Of an animation,
    the first picture is read. The log notes each step that changes colours or leaves something out.

    Args:
        path: a file of one of `PICTURE_FORMATS`.
        channels: 3 for RGB, 4 for RGBA with straight alpha (opaque if the picture has no alpha), 1 for BT.601 luma.
        background: the colour behind transparent pixels, unless `channels` is 4: a name, "#rrggbb" or three integers.
        max_pixels: the most pixels that the picture may have. None allows 179 million, and more, up to 2**30, if
            reading them fits into the available memory.

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
    with opened_picture(path, max_pixels) as image, translated_damage(path):
        _note_other_pictures(image, path)
        return upright_pixels(image, path, channels, behind, reopen=lambda: opened_picture(path, max_pixels))


def _note_other_pictures(image: Any, path: Path) -> None:
    """Note that only the first picture of a file is read."""
    if not getattr(image, "is_animated", False):
        return
    if image.format == "TIFF":  # Pillow would read all directories of the file to count its pages
        note(path, "pages", "has several pages: the first one is read, and the others are left out")
    else:
        note(path, "frames", f"holds {image.n_frames} pictures: the first one is read, {image.n_frames - 1} left out")


@shown_in("latentrt.runtime")
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
