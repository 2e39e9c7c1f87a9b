"""Conversion of a picture's colours to sRGB, with lcms (Pillow's ImageCms).

A picture names its colour space in one of these ways. The first usable one counts:

1. The numbers of PNG's cICP chunk.
2. An embedded ICC profile: RGB, gray, CMYK or Lab.
3. The numbers of AVIF, PNG's sRGB chunk, or PNG's gAMA and cHRM chunks.
4. EXIF, if it names Adobe RGB (colour space 2, or interoperability R03).
5. None of these: the space is sRGB.

The rendering intent is perceptual, which is ImageCms's default and the intent of nearly all profiles. For profiles of a
matrix and curves (Display P3, Adobe RGB), all intents are equal, and colours outside sRGB are clipped. A profile that
changes no value by more than 1 of 255 counts as sRGB, and the picture stays as it is. 16-bit pictures are converted
with all of their bits if the profile consists of a matrix and curves (see `colours/matrix_profile.py`). HDR pictures
(PQ, HLG) are converted like clips (see `colours/spaces.py`).
"""

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...extras import require
from ..colours.matrix_profile import deep_to_srgb
from ..colours.profile import icc_profile
from ..colours.spaces import ColourSpace
from ..colours.tags import LARGEST_PROFILE_BYTES, CodePoints, code_points, embedded_profile, exif_space, png_space
from ..notes import note
from .deep_avif import deep_avif
from .exif import Exif
from .picture_samples import Samples
from .png_file import png_profile

__all__ = ["to_srgb"]

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}  # an ICC profile's colour space: Pillow's mode
_GRID = 17  # levels per channel of the RGB colours that are compared to find out whether a profile is sRGB
_BAND_PIXELS = 1 << 18  # converted at a time
_LONGEST_NAME = 60  # characters of a name from a file, in a message


@dataclass(frozen=True)
class _Profile:
    """An ICC profile.

    Attributes:
        data: the profile.
        name: the name for messages. None takes the profile's description.
    """

    data: bytes
    name: str | None = None


class _UnusableProfile(Exception):
    """The profile is damaged or does not fit the picture."""


def to_srgb(samples: Samples, opened: Any, path: Path) -> Any:
    """Convert a picture's colours to sRGB, and note in the log what was assumed or changed.

    Args:
        samples: the picture.
        opened: the loaded Pillow image of the file, for its profile and tags.
        path: the file, which is read again for tags that Pillow does not read.

    Returns:
        A Pillow image in mode L (gray that needed no conversion) or RGB.
    """
    numbers = code_points(path, opened.format)
    image = samples.image
    if numbers is not None and not numbers.full_range and image.mode in ("L", "RGB"):
        levels = [min(max(round((value - 16) * 255 / 219), 0), 255) for value in range(256)]
        image = image.point(levels * len(image.getbands()))
    embedded = opened.info.get("icc_profile") or _left_out_profile(opened, path)
    if numbers is not None and numbers.hdr is not None and (opened.format == "PNG" or not embedded):
        return _from_hdr(samples, opened, numbers, path)
    profile = _profile_of(opened, embedded, numbers, path)
    if profile is not None:
        try:
            return _converted(image, profile, path, samples.deep if image is samples.image else None)
        except _UnusableProfile as error:
            note(path, "profile", f"has a colour profile that cannot be used ({error}): read without it")
    return _without_profile(image, path)


def _left_out_profile(opened: Any, path: Path) -> bytes | None:
    """The profile of a file that Pillow does not give."""
    if opened.format != "PNG":
        return embedded_profile(path, opened.format)
    if "icc_profile" in opened.info:  # it is damaged
        return None
    with path.open("rb") as file:
        return png_profile(file, LARGEST_PROFILE_BYTES + 1)


def _profile_of(opened: Any, embedded: bytes | None, numbers: CodePoints | None, path: Path) -> _Profile | None:
    if numbers is not None and (opened.format == "PNG" or not embedded):
        if numbers.space is not None:
            return _Profile(icc_profile(numbers.space), f"{numbers.space.name}, which its tags name")
        if not embedded:
            text = f"primaries {numbers.primaries}, transfer {numbers.transfer}"
            note(path, "numbers", f"has a colour space that is not known ({text}): read as sRGB")
            return None
    if embedded:
        return _Profile(embedded)
    if "icc_profile" in opened.info:  # Pillow could not unpack it
        note(path, "profile", "has a damaged colour profile: read without it")
    try:
        space = png_space(opened.info) if opened.format == "PNG" else None
        if space is not None:
            return _Profile(icc_profile(space), space.name)
    except ValueError as error:
        note(path, "chunks", f"has gAMA and cHRM chunks that describe no colour space ({error}): read as sRGB")
        return None
    return None if "srgb" in opened.info else _exif_profile(opened, path)


def _exif_profile(opened: Any, path: Path) -> _Profile | None:
    exif = Exif.of(opened)
    space = exif_space(exif.colour_space, exif.interoperability)
    if space == "uncalibrated":
        note(path, "uncalibrated", "says that it is not in sRGB (EXIF) and has no colour profile: read as sRGB")
    return None if space is None or isinstance(space, str) else _Profile(icc_profile(space), f"{space.name} (EXIF)")


def _converted(image: Any, profile: _Profile, path: Path, deep: NDArray[np.uint16] | None) -> Any:
    mode, name, transform = _transform(profile.data, image.mode)
    if transform is None:
        return image
    pixels = None if deep is None else deep_to_srgb(profile.data, deep)
    if pixels is not None:
        converted = require("PIL.Image", extra="media").fromarray(pixels)
    else:
        converted = transform.apply(image if image.mode == mode else image.convert(mode))
    note(path, "converted", f"was converted to sRGB from {profile.name or name}")
    return converted


@lru_cache(maxsize=4)
def _transform(data: bytes, image_mode: str) -> tuple[str, str, Any]:
    """Pillow's mode for a profile, a name for messages, and lcms's transform to sRGB.

    The transform is None if it would change nothing.

    Raises:
        _UnusableProfile: the profile is damaged, too large, or for another kind of picture.
    """
    if len(data) > LARGEST_PROFILE_BYTES:
        raise _UnusableProfile("it is too large")
    cms = require("PIL.ImageCms", extra="media")
    try:
        profile = cms.ImageCmsProfile(io.BytesIO(data))
        space = profile.profile.xcolor_space.strip()
        mode = _MODES.get(space, "")
        if mode != image_mode and (mode, image_mode) != ("RGB", "L"):
            raise _UnusableProfile(f"it is for {_printable(space)} and the picture is {image_mode}")
        transform = cms.ImageCmsTransform(profile, cms.ImageCmsProfile(cms.createProfile("sRGB")), mode, "RGB")
        name = f"its colour profile {_printable(profile.profile.profile_description or 'without a name')!r}"
        return mode, name, None if _changes_nothing(transform, mode) else transform
    except (OSError, TypeError, ValueError, AttributeError, cms.PyCMSError) as error:
        raise _UnusableProfile("it is damaged") from error


def _changes_nothing(transform: Any, mode: str) -> bool:
    if mode == "L":
        colours = np.arange(256, dtype=np.uint8)[np.newaxis]
    elif mode == "RGB":
        levels = np.rint(np.linspace(0, 255, _GRID)).astype(np.uint8)
        colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(_GRID, -1, 3)
    else:
        return False
    image = require("PIL.Image", extra="media").fromarray(colours)
    got = np.asarray(transform.apply(image)).astype(int)
    return bool(np.abs(got - colours.reshape(*colours.shape[:2], -1)).max() <= 1)


def _without_profile(image: Any, path: Path) -> Any:
    if image.mode == "CMYK":
        note(
            path, "cmyk", "is CMYK without a usable colour profile: converted by a simple formula that ignores its inks"
        )
        return image.convert("RGB")
    if image.mode == "LAB":
        cms = require("PIL.ImageCms", extra="media")
        lab, srgb = (cms.ImageCmsProfile(cms.createProfile(name)) for name in ("LAB", "sRGB"))
        note(path, "converted", "was converted to sRGB from CIE L*a*b* (D50)")
        return cms.ImageCmsTransform(lab, srgb, "LAB", "RGB").apply(image)
    return image


def _from_hdr(samples: Samples, opened: Any, numbers: CodePoints, path: Path) -> Any:
    space = ColourSpace(numbers.primaries, numbers.transfer)
    if not space.supported:
        note(path, "hdr", f"is an HDR picture ({numbers.hdr}) of unknown primaries: its colours were left as they are")
        return samples.image
    deep = samples.deep
    if deep is None and opened.format == "AVIF" and getattr(opened, "n_frames", 1) == 1:
        deep = deep_avif(path, opened.height, opened.width)
    if deep is None:
        deep = np.asarray(samples.image.convert("RGB")).astype(np.uint16) * np.uint16(257)
    deep = np.broadcast_to(deep, (*deep.shape[:2], 3))  # gray too
    pixels = np.empty(deep.shape, np.uint8)
    band = max(1, _BAND_PIXELS // deep.shape[1])
    for top in range(0, len(deep), band):  # in bands, so that there are never floats of the whole picture
        codes = deep[top : top + band].astype(np.float32)
        if not numbers.full_range:
            codes = (codes - 16 * 257) * (255 / 219)
        pixels[top : top + band] = _display_to_srgb()[space.to_bt709(codes)]
    note(path, "hdr", f"is an HDR picture ({numbers.hdr}): converted to sRGB, brighter than 203 cd/m2 is white")
    return require("PIL.Image", extra="media").fromarray(pixels)


@lru_cache(maxsize=1)
def _display_to_srgb() -> NDArray[np.uint8]:
    """The sRGB code for each code of BT.1886 (the output of `ColourSpace`), for the same light."""
    light = (np.arange(256) / 255) ** 2.4
    codes = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    table: NDArray[np.uint8] = np.rint(codes * 255).astype(np.uint8)
    return table


def _printable(text: str) -> str:
    """Text from a file, shortened and without control characters."""
    return "".join(character for character in text[:_LONGEST_NAME] if character.isprintable()).strip()
