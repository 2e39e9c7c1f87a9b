"""PNG files without their texts and without large colour profiles, for Pillow's parser.

Programs store whole workflows in the texts of a picture. Pillow unpacks them all, and refuses a picture with a text of
more than 1 MiB. None of them is needed here, except XMP data and EXIF data in a text.
"""

import contextlib
import io
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from typing import BinaryIO

__all__ = ["png_profile", "png_without_text"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_KEPT_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
_MOST_KEPT_BYTES = 1 << 20  # of an unpacked text or profile, as Pillow's MAX_TEXT_CHUNK
_BUFFER_BYTES = 1 << 16


@contextlib.contextmanager
def png_without_text(file: BinaryIO) -> Iterator[BinaryIO]:
    """A view of a PNG file without texts and large profiles. A file of another format, or without them, is itself.

    Args:
        file: the open file, at its beginning. It must stay open.
    """
    parts = _kept_parts(file)
    file.seek(0)
    if len(parts) <= 1:
        yield file
        return
    with io.BufferedReader(_Parts(file, parts), _BUFFER_BYTES) as view:
        yield view


def png_profile(file: BinaryIO, most: int) -> bytes | None:
    """The colour profile of a PNG file. None if there is none, or if it is damaged.

    Args:
        file: the open file, at its beginning.
        most: the most bytes of the profile that are unpacked.
    """
    if file.read(8) != _SIGNATURE:
        return None
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        length = int.from_bytes(head[:4], "big")
        if head[4:] != b"iCCP":
            file.seek(length + 4, io.SEEK_CUR)
            continue
        _, _, packed = file.read(length).partition(b"\0")
        try:
            return zlib.decompressobj().decompress(packed[1:], most)
        except zlib.error:
            return None
    return None


def _kept_parts(file: BinaryIO) -> list[tuple[int, int]]:
    """The start and end of each part of a PNG file that is kept. At most one part if all of it is."""
    if file.read(8) != _SIGNATURE:
        return []
    size = file.seek(0, io.SEEK_END)
    parts: list[tuple[int, int]] = []
    start = place = 8
    kept: set[bytes] = set()
    while place + 12 <= size:
        file.seek(place)
        head = file.read(8)
        length = int.from_bytes(head[:4], "big")
        end = place + 12 + length
        if end > size:  # cut off, as Pillow will report
            break
        if head[4:] in (*_TEXTS, b"iCCP") and not _is_kept(file, head[4:], length, kept):
            parts.append((start, place))
            start = end
        place = end
    if not parts:
        return []
    parts[0] = (0, parts[0][1])
    return [*parts, (start, size)]


def _is_kept(file: BinaryIO, kind: bytes, length: int, kept: set[bytes]) -> bool:
    content = file.read(min(length, _MOST_KEPT_BYTES))
    if kind == b"iCCP":
        name, packed = b"iCCP", content.partition(b"\0")[2][1:]
    else:
        found = [text for text in _KEPT_TEXTS if content.startswith(text)]
        if not found or length > _MOST_KEPT_BYTES or found[0] in kept:
            return False
        name = found[0]
        rest = content[len(name) :]
        if kind == b"tEXt" or (kind == b"iTXt" and rest[:1] == b"\0"):
            packed = b""
        elif kind == b"zTXt":
            packed = rest[1:]
        else:  # compressed, after a language and a translated keyword
            packed = rest[2:].split(b"\0", 2)[-1]
    kept.add(name)
    if not packed:
        return True
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(packed, _MOST_KEPT_BYTES)
    except zlib.error:
        return kind == b"iCCP"  # Pillow notes a damaged profile
    return not unpacking.unconsumed_tail and length <= _MOST_KEPT_BYTES


class _Parts(io.RawIOBase):
    """Parts of a file as a file of their own, for reading."""

    def __init__(self, file: BinaryIO, parts: list[tuple[int, int]]) -> None:
        self._file, self._parts, self._place = file, parts, 0
        self._starts = [0]
        for start, end in parts:
            self._starts.append(self._starts[-1] + end - start)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._starts[-1]}[whence]
        self._place = max(0, origin + offset)
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override] # any buffer
        index = bisect_right(self._starts, self._place) - 1
        if index >= len(self._parts):
            return 0
        start, end = self._parts[index]
        self._file.seek(start + self._place - self._starts[index])
        content = self._file.read(min(len(buffer), end - start - (self._place - self._starts[index])))
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)
