"""The header of a `.npy` array, checked against the number of bytes before any memory is allocated.

NumPy parses the header as Python, and so raises errors of many kinds on damaged files. Here a pattern reads its three
fields. Python objects and records are refused.
"""

import math
import re
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import numpy as np

from ..errors import MediaError

__all__ = ["NotNumbers", "NpyHeader"]

_MAGIC = b"\x93NUMPY"
_MOST_HEADER_BYTES = 1 << 16  # NumPy writes 118 bytes for an array of numbers
_MOST_AXES = 32  # that every version of NumPy takes
_MOST_LENGTH = 1 << 62  # of one axis
_FIELD = re.compile(
    r"""\s*["'](?:(?:descr["']\s*:\s*["'](?P<dtype>[^"'\\]{1,20})["'])|(?:descr["']\s*:\s*(?P<records>\[))|"""
    r"""(?:fortran_order["']\s*:\s*(?P<order>True|False))|(?:shape["']\s*:\s*\((?P<shape>[0-9L,\s]*)\)))\s*(?P<end>[,}]?)"""
)
_NUMBERS = re.compile(r"[<>|=]?[biufc][0-9]{1,2}")


class NotNumbers(MediaError):
    """The array is whole, and holds no numbers. The message is the reason alone, without the file."""


@dataclass(frozen=True)
class NpyHeader:
    """The header of an array.

    Attributes:
        dtype: booleans, integers, floats or complex numbers, in any byte order.
        shape: the shape of the array.
        order: "C", or "F" for Fortran's order.
        offset: the first byte of the values, counted from the first byte of the file.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    offset: int

    @property
    def nbytes(self) -> int:
        """The bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize

    @classmethod
    def read(cls, file: BinaryIO, size: int) -> "NpyHeader":
        """Read the header at the beginning of a file of `size` bytes. The file is then at the first value.

        Raises:
            MediaError: the header is damaged, or the file is shorter than the header says. The message is the reason
                alone, without the file.
            NotNumbers: the array holds no numbers.
        """
        head = file.read(10)
        if head[:6] != _MAGIC or len(head) < 10:
            raise MediaError("its first bytes are not those of an array")
        if head[6] == 1:
            length, offset = int.from_bytes(head[8:10], "little"), 10
        elif head[6] in (2, 3):
            length, offset = int.from_bytes(head[8:10] + file.read(2), "little"), 12
        else:
            raise MediaError(f"its format has version {head[6]}, and 1 to 3 are known")
        if length > _MOST_HEADER_BYTES:
            raise MediaError(f"its header has {length} bytes, and the header of an array of numbers has about 118")
        content = file.read(length)
        if len(content) < length:
            raise MediaError("it ends within its header")
        dtype, shape, order = _fields(content.decode("latin-1"))
        header = cls(dtype, shape, order, offset + length)
        if header.offset + header.nbytes > size:
            raise MediaError(
                f"its header promises {header.nbytes} bytes of values, and {size - header.offset} are there"
            )
        return header


def _fields(text: str) -> tuple[np.dtype[Any], tuple[int, ...], Literal["C", "F"]]:
    found: dict[str, str] = {}
    text = text.strip()
    place, end = 1, ","
    damaged = MediaError("its header is damaged")
    if not text.startswith("{"):
        raise damaged
    while end == ",":
        if text[place:].strip() == "}":
            break
        field = _FIELD.match(text, place)
        if field is None:
            raise damaged
        if field["records"]:
            raise NotNumbers("it holds records and not numbers")
        (name,) = (name for name in ("dtype", "order", "shape") if field[name] is not None)
        if name in found:
            raise damaged
        found[name], place, end = field[name], field.end(), field["end"]
    else:
        if end != "}" or place != len(text):
            raise damaged
    if found.keys() != {"dtype", "order", "shape"}:
        raise damaged
    return _dtype(found["dtype"]), _shape(found["shape"]), "F" if found["order"] == "True" else "C"


def _dtype(text: str) -> np.dtype[Any]:
    if text.lstrip("<>|=").startswith("O"):
        raise NotNumbers("it holds Python objects and not numbers")
    if text.lstrip("<>|=") == "V2":
        raise NotNumbers("it holds values of a type that NumPy does not know, probably bfloat16: save it as float32")
    try:
        if _NUMBERS.fullmatch(text):
            return np.dtype(text)
    except TypeError:
        pass
    raise NotNumbers(f"it holds values of the type {text!r} and not numbers")


def _shape(text: str) -> tuple[int, ...]:
    parts = [part.strip().removesuffix("L") for part in text.split(",")]  # Python 2 wrote long integers with an L
    if parts and not parts[-1]:
        parts.pop()
    if len(parts) > _MOST_AXES or not all(part.isdecimal() and len(part) < 20 for part in parts):
        raise MediaError("its header is damaged")
    shape = tuple(map(int, parts))
    if any(length > _MOST_LENGTH for length in shape):
        raise MediaError("its header is damaged")
    return shape
