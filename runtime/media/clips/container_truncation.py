"""Detecting video files that are cut off, by the structure of their container and without decoding.

Demuxers report no error at the end of a cut-off file, so an incomplete download would be read as a shorter clip.
"""

import struct
from pathlib import Path
from typing import BinaryIO

__all__ = ["is_truncated"]

_LARGE_BOXES = (b"ftyp", b"moov", b"moof", b"mdat")  # other boxes at the end may be remnants that a camera wrote
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def is_truncated(path: Path) -> bool:
    """Whether an MP4, MOV, Matroska, WebM, AVI or GIF file is cut off. False for files of other formats.

    Raises:
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        if head[:3] == b"GIF":
            return _gif_is_truncated(file, size)
        if head[:4] == _EBML:
            return _matroska_is_truncated(file, size)
        if head[:4] == b"RIFF":
            return _riff_is_truncated(file, size)
        return _boxes_are_truncated(file, size)


def _gif_is_truncated(file: BinaryIO, size: int) -> bool:
    file.seek(max(0, size - 64))
    return not file.read().rstrip(b"\0\r\n").endswith(b";")  # the trailer, after which some tools pad the file


def _riff_is_truncated(file: BinaryIO, size: int) -> bool:
    """Check an AVI file: a list of chunks, and a further list for each gigabyte."""
    start = 0
    while start + 8 <= size:
        file.seek(start)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF":  # bytes after the lists may be remnants that a camera wrote
            return False
        start += 8 + length + length % 2
        # Some tools leave the last padding byte out. A length of 0 means that the file was written to a pipe.
        if length and start > size + 1:
            return True
    return False


def _boxes_are_truncated(file: BinaryIO, size: int) -> bool:
    start = 0
    while start + 8 <= size:
        file.seek(start)
        head = file.read(16).ljust(16, b"\0")
        length, kind = struct.unpack(">I4s", head[:8])
        if length == 1:
            (length,) = struct.unpack(">Q", head[8:])
        if length < 8:  # 0 means that the box ends with the file; other values are no boxes
            return False
        start += length
        if start > size:
            return kind in _LARGE_BOXES
    return False


def _matroska_is_truncated(file: BinaryIO, size: int) -> bool:
    file.seek(4)
    header_bytes = _matroska_size(file)
    if header_bytes is None:
        return False
    file.seek(header_bytes, 1)
    if file.read(4) != _SEGMENT:
        return False
    segment_bytes = _matroska_size(file)
    return segment_bytes is not None and file.tell() + segment_bytes > size


def _matroska_size(file: BinaryIO) -> int | None:
    """Read a size of variable length. None if it is unknown.

    The leading zero bits of the first byte say how many bytes follow. A size of only ones means unknown.
    """
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0x7F >> more)]) + file.read(more), "big")
    return None if value == (1 << 7 * (more + 1)) - 1 else value
