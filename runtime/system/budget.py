"""How much memory a call may take: what a user writes, and what is free."""

import math
import operator
import re

from ..errors import InputError
from .available_memory import available_bytes

__all__ = ["DEFAULT_SHARE", "default_budget", "memory_text", "parse_memory"]

DEFAULT_SHARE = 0.7
"""Of the memory that is available when a call starts: what the call may take where nobody says how much."""

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}


def parse_memory(value: int | str, name: str = "memory") -> int:
    """Bytes: a whole number of them, or a text such as "8GiB", "800 MiB" or "8GB".

    Raises:
        InputError: neither, or nothing at all.
    """
    size = None
    if hasattr(value, "__index__") and not isinstance(value, bool):
        size = operator.index(value)
    elif isinstance(value, str):
        found = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([a-zA-Z]{0,4})\s*", value)
        if found and found[2].upper() in _UNITS:
            size = int(float(found[1]) * _UNITS[found[2].upper()])
    if size is None or size < 1:
        raise InputError(f'{name}: wanted bytes, or a text such as "8GiB", "800MiB" or "8GB", got {value!r}')
    return size


def memory_text(size: float, *, up: bool = False) -> str:
    """Bytes for people: 3.25 GiB, 812 MiB. `up`: rounded to what is at least as much, for what is to be allowed."""
    value, digits, unit = (size / 2**30, 2, "GiB") if size >= 1 << 30 else (size / 2**20, 0, "MiB")
    if up:
        value = math.ceil(value * 10**digits) / 10**digits
    return f"{value:.{digits}f} {unit}"


def default_budget() -> int:
    """`DEFAULT_SHARE` of the host's available memory, in bytes."""
    return int(DEFAULT_SHARE * available_bytes())
