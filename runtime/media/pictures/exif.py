"""The few EXIF entries that matter for pixels, read entry by entry.

Pillow reads all entries at once and raises many kinds of errors if one of them is odd, as cameras and editors write
them. Here an entry that cannot be read is passed over.
"""

import struct
from dataclasses import dataclass
from typing import Any

__all__ = ["Exif"]

_ORIENTATION, _DETAILS, _INTEROPERABILITY, _COLOUR_SPACE, _INDEX = 0x0112, 0x8769, 0xA005, 0xA001, 0x0001
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I"}  # the codes of `struct` by TIFF's types
_TEXT = 2
_MOST_ENTRIES = 4096  # of one directory


@dataclass(frozen=True)
class Exif:
    """EXIF entries. An entry is None if it is missing or cannot be read.

    Attributes:
        orientation: 1 to 8 for the ways to turn the picture upright; other numbers mean nothing.
        colour_space: 1 for sRGB, 2 for Adobe RGB, 65535 for another space.
        interoperability: "R98" for sRGB, "R03" for Adobe RGB.
        damaged: whether there are EXIF data without a directory that can be read.
    """

    orientation: int | None = None
    colour_space: int | None = None
    interoperability: str | None = None
    damaged: bool = False

    @classmethod
    def of(cls, image: Any) -> "Exif":
        """The entries of an opened Pillow image. Those of TIFF files are tags of the picture, which Pillow reads."""
        if image.format == "TIFF":
            return _from_pillow(image)
        raw = image.info.get("exif") or _from_text(image.info.get("Raw profile type exif"))
        return cls.parsed(raw) if isinstance(raw, bytes) and raw else cls()

    @classmethod
    def parsed(cls, raw: bytes) -> "Exif":
        """The entries in EXIF data: a TIFF header, with or without "Exif" before it."""
        while raw.startswith(b"Exif\0"):
            raw = raw[6:]
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(raw[:4])
        if order is None or len(raw) < 10:
            return cls(damaged=True)
        first = _directory(raw, order, struct.unpack(order + "I", raw[4:8])[0])
        if first is None:
            return cls(damaged=True)
        details = _directory(raw, order, _number(first.get(_DETAILS))) or {}
        place = _number(first.get(_INTEROPERABILITY)) or _number(details.get(_INTEROPERABILITY))
        index = (_directory(raw, order, place) or {}).get(_INDEX)
        return cls(
            _number(first.get(_ORIENTATION)),
            _number(details.get(_COLOUR_SPACE)),
            index if isinstance(index, str) else None,
        )


def _directory(raw: bytes, order: str, place: int | None) -> dict[int, int | str] | None:
    """The integers and the short texts of a directory, by their tags. None if the directory is not in the data."""
    if place is None or not 8 <= place <= len(raw) - 2:
        return None
    (count,) = struct.unpack_from(order + "H", raw, place)
    entries: dict[int, int | str] = {}
    for start in range(place + 2, min(place + 2 + 12 * min(count, _MOST_ENTRIES), len(raw) - 11), 12):
        tag, kind, length = struct.unpack_from(order + "HHI", raw, start)
        if tag in entries:
            continue
        if kind in _INTEGERS and length:
            entries[tag] = struct.unpack_from(order + _INTEGERS[kind], raw, start + 8)[0]
        elif kind == _TEXT and 0 < length <= 4:
            entries[tag] = raw[start + 8 : start + 8 + length].decode("latin-1").strip("\0 ")
    return entries if entries or not count else None


def _number(value: int | str | None) -> int | None:
    return value if isinstance(value, int) else None


def _from_text(text: object) -> bytes | None:
    """EXIF data that ImageMagick wrote as a text into a PNG file: hexadecimal digits after three lines."""
    try:
        return bytes.fromhex("".join(str(text).split("\n")[3:])) if text else None
    except ValueError:
        return None


def _from_pillow(image: Any) -> Exif:
    # Pillow turns TIFF pictures upright when it loads them, so their orientation does not matter.
    try:
        exif = image.getexif()
        space = exif.get_ifd(_DETAILS).get(_COLOUR_SPACE)
        index = exif.get_ifd(_INTEROPERABILITY).get(_INDEX)
    except Exception:  # Pillow raises many kinds on odd entries
        return Exif(damaged=True)
    return Exif(None, space if isinstance(space, int) else None, None if index is None else str(index).strip("\0 "))
