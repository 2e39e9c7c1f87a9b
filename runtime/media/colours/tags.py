"""The colour tags of pictures: chunks of PNG, boxes of AVIF and JPEG 2000, the header of BMP, and EXIF.

Pillow does not read PNG's cICP chunk, AVIF's numbers, and the profiles in JPEG 2000 and BMP. So the headers of these
files are parsed here. Sizes in a header are not trusted: parsing takes a limited number of steps and reads a few bytes
in each.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .profile import ADOBE_RGB, SRGB, SRGB_CURVE, RGBSpace

__all__ = ["LARGEST_PROFILE_BYTES", "CodePoints", "code_points", "embedded_profile", "exif_space", "png_space"]

LARGEST_PROFILE_BYTES = 16 << 20
"""The largest ICC profile that is used. Common profiles have at most 4 MiB, and a JPEG file can hold 16 MiB."""

_MOST_STEPS = 4096  # chunks or boxes of a file that are looked at
_PNG = b"\x89PNG\r\n\x1a\n"
_SRGB_GAMMA = 0.45455  # as a gAMA chunk stores sRGB: 1/2.2
_NEAR = 0.0015  # the tolerance of chromaticities: a cHRM chunk has five digits, and programs round them differently

_D65, _C, _DCI = (0.3127, 0.3290), (0.310, 0.316), (0.314, 0.351)
# ITU-T H.273, table 2.
_PRIMARIES = {
    1: ("BT.709", SRGB.primaries, _D65),
    4: ("BT.470 M", ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08)), _C),
    5: ("BT.601 625", ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)), _D65),
    6: ("BT.601 525", ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), _D65),
    7: ("SMPTE 240M", ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), _D65),
    9: ("BT.2020", ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), _D65),
    11: ("DCI-P3", ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), _DCI),
    12: ("Display P3", ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), _D65),
    22: ("EBU 3213", ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077)), _D65),
}
# ITU-T H.273, table 3, as curves of an ICC profile. The curves of SDR television (1, 6, 7, 14, 15) are camera curves.
# Their code values are read as sRGB, in pictures as in clips. 2 is "unspecified".
_CURVES: dict[int, tuple[float, ...]] = {
    **dict.fromkeys((1, 2, 6, 7, 13, 14, 15), SRGB_CURVE),
    4: (2.2,),
    5: (2.8,),
    8: (1.0,),
}
_HDR = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True)
class CodePoints:
    """The colour space of a picture, by the numbers of ITU-T H.273.

    Attributes:
        primaries: the number of the primaries.
        transfer: the number of the transfer curve.
        full_range: whether code values have the full range, rather than the limited range of video.
    """

    primaries: int
    transfer: int
    full_range: bool = True

    @property
    def hdr(self) -> str | None:
        """The name of the HDR curve, "PQ" or "HLG". None for other curves."""
        return _HDR.get(self.transfer)

    @property
    def space(self) -> RGBSpace | None:
        """The RGB space. None if it cannot be described by primaries and a curve of an ICC profile."""
        primaries = _PRIMARIES.get(1 if self.primaries == 2 else self.primaries)
        curve = _CURVES.get(self.transfer)
        if primaries is None or curve is None:
            return None
        name, points, white = primaries
        return RGBSpace(name, points, white, curve)


def code_points(path: Path, kind: str | None) -> CodePoints | None:
    """Read the numbers in the cICP chunk of a PNG file or the `colr` box of an AVIF file. None if there are none.

    Args:
        path: the file.
        kind: its format, by Pillow's name.
    """
    if kind not in ("PNG", "AVIF"):
        return None
    with path.open("rb") as file:
        found = _png_chunk(file, b"cICP", 4) if kind == "PNG" else _avif_numbers(file)
    if found is None:
        return None
    if kind == "PNG":
        return CodePoints(found[0], found[1], bool(found[3]))
    return CodePoints(*struct.unpack(">HH", found))  # the decoder has expanded the range already


def embedded_profile(path: Path, kind: str | None) -> bytes | None:
    """Read the ICC profile in a JPEG 2000 or BMP file. None if there is none.

    Args:
        path: the file.
        kind: its format, by Pillow's name.
    """
    if kind not in ("JPEG2000", "BMP"):
        return None
    with path.open("rb") as file:
        return _jp2_profile(file) if kind == "JPEG2000" else _bmp_profile(file)


def png_space(info: dict[Any, Any]) -> RGBSpace | None:
    """The space that the gAMA and cHRM chunks of a PNG file describe. None if it is sRGB or there are no such chunks.

    A gamma of 1/2.2 with sRGB's primaries means sRGB: programs write it for readers that do not know sRGB's curve.

    Args:
        info: the `info` of the Pillow image.

    Raises:
        ValueError: the chunks describe no colour space.
    """
    gamma, points = info.get("gamma"), info.get("chromaticity")
    if "srgb" in info or (gamma is None and points is None):
        return None
    if gamma is not None and not 0.1 <= gamma <= 10:
        raise ValueError(f"gamma {gamma}")
    white, red, green, blue = zip(points[::2], points[1::2], strict=True) if points else (_D65, *SRGB.primaries)
    primaries = (red, green, blue)
    srgb = (SRGB.white, *SRGB.primaries)
    same = all(
        abs(a - b) < _NEAR
        for one, other in zip((white, *primaries), srgb, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    if same and (gamma is None or abs(gamma - _SRGB_GAMMA) < 0.0001):
        return None
    curve = SRGB_CURVE if gamma is None else (1 / gamma,)
    return RGBSpace("the gamma and primaries of its PNG chunks", primaries, white, curve)


def exif_space(colour_space: int | None, interoperability: str | None) -> RGBSpace | str | None:
    """The space that EXIF names: Adobe RGB, or None for sRGB and if there is no entry.

    The result is "uncalibrated" if EXIF says that the space is not sRGB and does not name it.

    Args:
        colour_space: the entry ColorSpace.
        interoperability: the index of the interoperability directory.
    """
    if interoperability == "R03" or colour_space == 2:  # 2 is not in the standard, but some cameras write it
        return ADOBE_RGB
    return "uncalibrated" if colour_space == 0xFFFF else None


def _png_chunk(file: BinaryIO, wanted: bytes, size: int) -> bytes | None:
    """The content of the chunk `wanted` before the pixels. None if there is none with that size."""
    if file.read(8) != _PNG:
        return None
    for _ in range(_MOST_STEPS):
        head = file.read(8)
        if len(head) < 8 or head[4:] in (b"IDAT", b"IEND"):
            return None
        (length,) = struct.unpack(">I", head[:4])
        if head[4:] == wanted:
            content = file.read(size)
            return content if length == size and len(content) == size else None
        file.seek(length + 4, 1)
    return None


def _avif_numbers(file: BinaryIO) -> bytes | None:
    """The four bytes of primaries and transfer in the first `colr` box. None if its type is not nclx."""
    if _boxes(file, (b"meta", b"iprp", b"ipco", b"colr")) is None:
        return None
    content = file.read(8)
    return content[4:] if content[:4] == b"nclx" and len(content) == 8 else None


def _jp2_profile(file: BinaryIO) -> bytes | None:
    """The profile in a `colr` box (ISO/IEC 15444-1, I.5.3.3).

    The first byte is the method, which is 2 or 3 for a profile. Two more bytes follow, and then the profile.
    """
    end = _boxes(file, (b"jp2h", b"colr"))
    if end is None or file.read(3)[:1] not in (b"\2", b"\3"):
        return None
    return file.read(min(end - file.tell(), LARGEST_PROFILE_BYTES + 1))


def _bmp_profile(file: BinaryIO) -> bytes | None:
    """The profile of a BITMAPV5HEADER whose colour space type is 'MBED' (little-endian)."""
    head = file.read(14 + 124)
    if len(head) < 14 + 124 or struct.unpack("<I", head[14:18])[0] < 124 or head[14 + 56 : 14 + 60] != b"DEBM":
        return None
    offset, size = struct.unpack("<II", head[14 + 112 : 14 + 120])
    file.seek(14 + offset)
    return file.read(min(size, LARGEST_PROFILE_BYTES + 1))


def _boxes(file: BinaryIO, names: tuple[bytes, ...]) -> int | None:
    """Move to the content of a nested box, named from the outermost box inwards, and return where it ends."""
    file.seek(0, 2)
    end = file.tell()
    file.seek(0)
    for name in names:
        found = _box(file, name, end)
        if found is None:
            return None
        end = found
        if name == b"meta":
            file.seek(4, 1)  # version and flags
    return end


def _box(file: BinaryIO, name: bytes, end: int) -> int | None:
    """Move to the content of the box `name`, and return where it ends."""
    for _ in range(_MOST_STEPS):
        start = file.tell()
        head = file.read(8)
        if len(head) < 8 or start >= end:
            return None
        size, header = struct.unpack(">I", head[:4])[0], 8
        if size == 1:
            long_size = file.read(8)
            if len(long_size) < 8:
                return None
            size, header = struct.unpack(">Q", long_size)[0], 16
        following = end if size == 0 else start + size
        if (size and size < header) or following > end:
            return None
        if head[4:] == name:
            return following
        file.seek(following)
    return None
