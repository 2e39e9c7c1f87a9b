"""Cropping that a container asks for: Matroska's PixelCrop and MP4's clean aperture ("clap").

PyAV does not report it. Decoders apply the cropping of a codec (such as H.264's frame cropping) themselves.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cropping", "cropping_of"]

_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT, _CLUSTER, _TRACKS, _TRACK, _VIDEO = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE, 0xE0
_BOTTOM, _TOP, _LEFT, _RIGHT = 0x54AA, 0x54BB, 0x54CC, 0x54DD
_MOST_ELEMENTS, _MOST_TRACK_BYTES = 1000, 1 << 22  # limits of what is parsed in a hostile file
_SAMPLE_ENTRY_BYTES = 86  # of a video entry in an "stsd" box, before the boxes inside it


@dataclass(frozen=True)
class Cropping:
    """Rows and columns to leave out of a frame.

    Attributes:
        top: rows at the top, in stored pixels.
        bottom: rows at the bottom.
        left: columns at the left.
        right: columns at the right.
    """

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def fits(self, height: int, width: int) -> bool:
        """Whether the cropping changes a picture of this size and leaves something of it."""
        cut = (self.top, self.bottom, self.left, self.right)
        return any(cut) and min(cut) >= 0 and self.top + self.bottom < height and self.left + self.right < width

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Crop uint8 pixels (H, W, C). The result is a view."""
        height, width = pixels.shape[:2]
        return pixels[self.top : height - self.bottom, self.left : width - self.right]


def cropping_of(path: Path, height: int, width: int) -> Cropping | None:
    """Read the cropping of a video from its container.

    Args:
        path: the video file.
        height: the height of the stored frames, in pixels.
        width: the width of the stored frames, in pixels.

    Returns:
        None if the container asks for no cropping, if the file has several video tracks, or if its layout is unusual.

    Raises:
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        is_matroska = file.read(4) == _EBML
        try:
            found = _matroska(file) if is_matroska else _clean_aperture(file, path.stat().st_size, height, width)
        except (struct.error, IndexError, ArithmeticError, ValueError, OSError):  # the file is damaged
            return None
    return found[0] if len(found) == 1 and found[0].fits(height, width) else None


def _matroska(file: BinaryIO) -> list[Cropping]:
    file.seek(0)
    for _ in range(_MOST_ELEMENTS):
        place = file.tell()
        name, body, length = _element(file.read(12), 0)
        if name == _CLUSTER:
            break
        if name == _TRACKS:
            file.seek(place + body)
            content = file.read(min(length, _MOST_TRACK_BYTES))
            return [_pixel_crop(video) for track in _children(content, _TRACK) for video in _children(track, _VIDEO)]
        file.seek(place + body + (0 if name == _SEGMENT else length))
    return []


def _pixel_crop(video: bytes) -> Cropping:
    def pixels(name: int) -> int:
        return next((int.from_bytes(value, "big") for value in _children(video, name)), 0)

    return Cropping(pixels(_TOP), pixels(_BOTTOM), pixels(_LEFT), pixels(_RIGHT))


def _children(content: bytes, wanted: int) -> Iterator[bytes]:
    place = 0
    while place < len(content):
        name, body, length = _element(content, place)
        if name == wanted:
            yield content[body : body + length]
        place = body + length


def _element(content: bytes, place: int) -> tuple[int, int, int]:
    """The name of the EBML element at `place`, the place of its body, and the length of its body in bytes."""
    name_bytes = 9 - content[place].bit_length()
    first = content[place + name_bytes]
    more = 8 - first.bit_length()
    body = place + name_bytes + 1 + more
    length = int.from_bytes(bytes([first & (0x7F >> more)]) + content[body - more : body], "big")
    return int.from_bytes(content[place : place + name_bytes], "big"), body, length


def _clean_aperture(file: BinaryIO, size: int, height: int, width: int) -> list[Cropping]:
    found = []
    for moov in _boxes(file, b"moov", 0, size):
        for trak in _boxes(file, b"trak", *moov):
            for start, end in _inside(file, (b"mdia", b"minf", b"stbl", b"stsd"), trak):
                file.seek(start + 8)  # after version, flags and the count
                entry_bytes, _ = struct.unpack(">I4s", file.read(8))
                entry = (start + 8 + _SAMPLE_ENTRY_BYTES, min(end, start + 8 + entry_bytes))
                for place, _ in _boxes(file, b"clap", *entry):
                    file.seek(place)
                    values = struct.unpack(">4IiIiI", file.read(32))
                    found.append(_centred(values, height, width))
    return found


def _centred(values: tuple[int, ...], height: int, width: int) -> Cropping:
    wide, high, right_of_middle, below_middle = (Fraction(values[at], values[at + 1]) for at in (0, 2, 4, 6))
    left, top = round((width - wide) / 2 + right_of_middle), round((height - high) / 2 + below_middle)
    return Cropping(top, height - top - round(high), left, width - left - round(wide))


def _inside(file: BinaryIO, names: tuple[bytes, ...], within: tuple[int, int]) -> Iterator[tuple[int, int]]:
    if not names:
        yield within
        return
    for inner in _boxes(file, names[0], *within):
        yield from _inside(file, names[1:], inner)


def _boxes(file: BinaryIO, wanted: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The start and end of the body of each box of the kind `wanted`, between two places of the file."""
    for _ in range(_MOST_ELEMENTS):
        if start + 8 > end:
            return
        file.seek(start)
        length, kind = struct.unpack(">I4s", file.read(8))
        body = start + 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
            body = start + 16
        length = end - start if length == 0 else length
        if length < 8:
            return
        if kind == wanted:
            yield body, min(end, start + length)
        start += length
