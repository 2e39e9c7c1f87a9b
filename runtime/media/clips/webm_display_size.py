"""Writing the display size into a finished WebM file, which marks its pixels as not square.

FFmpeg's muxer writes it from a field that PyAV cannot set, and VP9 has no such field. So it is added to the finished
file, in the empty space that the muxer leaves after the file's index.
"""

import math
from fractions import Fraction
from pathlib import Path

__all__ = ["write_display_size"]

_HEADER, _SEGMENT, _SEEK_HEAD, _VOID, _INFO, _TRACKS = (
    bytes.fromhex(name) for name in ("1a45dfa3", "18538067", "114d9b74", "ec", "1549a966", "1654ae6b")
)
_TRACK, _VIDEO, _SEEK_POSITION = bytes.fromhex("ae"), bytes.fromhex("e0"), bytes.fromhex("53ac")
_DISPLAY_WIDTH, _DISPLAY_HEIGHT = bytes.fromhex("54b0"), bytes.fromhex("54ba")
_HEAD_BYTES = 1 << 16  # of the file that are read, changed and written back
_LARGEST = 16384  # the largest exact display size in pixels; a larger one is rounded


def write_display_size(file: Path, height: int, width: int, sample_aspect_ratio: Fraction) -> bool:
    """Add the display size to a WebM file of FFmpeg, in place. The length of the file does not change.

    Args:
        file: the complete file.
        height: in pixels.
        width: in pixels.
        sample_aspect_ratio: a pixel's width over its height.

    Returns:
        Whether it was added. If the file's layout is unexpected, the file stays unchanged.
    """
    with file.open("r+b") as stream:
        head = bytearray(stream.read(_HEAD_BYTES))
        try:
            start = _Element.at(head, 0, _HEADER).end
            seek = _Element.at(head, _Element.at(head, start, _SEGMENT).body, _SEEK_HEAD)
            void = _Element.at(head, seek.end, _VOID)
            info = _Element.at(head, void.end, _INFO)
            tracks = _Element.at(head, info.end, _TRACKS)
            track = _Element.at(head, tracks.body, _TRACK)
            video = _Element.within(head, track, _VIDEO)
        except (ValueError, IndexError):
            return False
        shown = _display_size(height, width, sample_aspect_ratio)
        added = b"".join(
            name + b"\x84" + size.to_bytes(4, "big")
            for name, size in zip((_DISPLAY_HEIGHT, _DISPLAY_WIDTH), shown, strict=True)
        )
        display = _VIDEO + _size(video.length + len(added)) + bytes(head[video.body : video.end]) + added
        content = bytes(head[track.body : video.start]) + display + head[video.end : track.end]
        content = _TRACK + _size(len(content)) + content + head[track.end : tracks.end]
        content = _TRACKS + _size(len(content)) + content
        grown = len(content) - (tracks.end - tracks.start)
        if tracks.end > len(head) or void.length < grown:
            return False
        # The empty element becomes shorter, and the elements between it and the tracks move forward.
        width_bytes = void.body - void.start - len(_VOID)
        smaller = _VOID + _size(void.length - grown, width_bytes) + bytes(void.length - grown)
        _move_positions(head, seek, {info.start, tracks.start}, _Element.at(head, start, _SEGMENT).body, grown)
        head[void.start : tracks.end] = smaller + head[info.start : info.end] + content
        stream.seek(0)
        stream.write(head)
    return True


class _Element:
    """The place of an EBML element.

    Attributes:
        start: the first byte of the element, counted from the beginning of the file.
        body: the first byte of its body.
        length: the length of its body in bytes.
        end: the byte after its body.
    """

    def __init__(self, start: int, body: int, length: int) -> None:
        self.start, self.body, self.length, self.end = start, body, length, body + length

    @classmethod
    def at(cls, content: bytearray, place: int, name: bytes) -> "_Element":
        """Parse the element at `place`, whose name must be `name`; otherwise raise ValueError."""
        if content[place : place + len(name)] != name:
            raise ValueError(name)
        first = content[place + len(name)]
        more = 8 - first.bit_length()
        body = place + len(name) + 1 + more
        mask = 0x7F >> more
        return cls(place, body, int.from_bytes(bytes([first & mask]) + content[body - more : body], "big"))

    @classmethod
    def within(cls, content: bytearray, parent: "_Element", name: bytes) -> "_Element":
        """Find the first element `name` in the body of `parent`. Raise ValueError if there is none."""
        place = parent.body
        while place < parent.end:
            if content[place : place + len(name)] == name:
                return cls.at(content, place, name)
            name_bytes = 9 - content[place].bit_length()
            place = cls.at(content, place, bytes(content[place : place + name_bytes])).end
        raise ValueError(name)


def _move_positions(content: bytearray, seek: _Element, moved: set[int], origin: int, by: int) -> None:
    """Correct the index for elements that moved by some bytes. Positions count from the segment's first byte."""
    place = content.find(_SEEK_POSITION, seek.body, seek.end)
    while place >= 0:
        position = _Element.at(content, place, _SEEK_POSITION)
        value = int.from_bytes(content[position.body : position.end], "big")
        if origin + value in moved:
            content[position.body : position.end] = (value - by).to_bytes(position.length, "big")
        place = content.find(_SEEK_POSITION, position.end, seek.end)


def _size(value: int, width: int = 0) -> bytes:
    """An EBML size, stored in `width` bytes. With a width of 0 it takes as few bytes as possible."""
    width = width or next(count for count in range(1, 9) if value < (1 << 7 * count) - 1)
    return ((1 << 7 * width) | value).to_bytes(width, "big")


def _display_size(height: int, width: int, sample_aspect_ratio: Fraction) -> tuple[int, int]:
    """The display size (height, width) with exactly the displayed shape.

    Its height is at least `height`. If an exact size would be larger than `_LARGEST`, the width is rounded instead.
    """
    shape = width * sample_aspect_ratio / height
    times = math.ceil(Fraction(height, shape.denominator))
    if times * max(shape.numerator, shape.denominator) <= _LARGEST:
        return times * shape.denominator, times * shape.numerator
    return height, max(1, round(width * sample_aspect_ratio))
