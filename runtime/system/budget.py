"""Memory budgets of calls: reading them, writing them, and the default."""

import math
import operator
import re

from ..errors import InputError
from .available_memory import available_bytes

__all__ = ["DEFAULT_SHARE", "default_budget", "memory_text", "parse_memory"]

DEFAULT_SHARE = 0.7
"""The default budget of a call, as a share of the memory that is available when the call starts."""

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}


def parse_memory(value: int | str, name: str = "memory") -> int:
    """A memory size in bytes.

    Args:
        value: a whole number of bytes, or a text such as "8GiB", "800 MiB" or "8GB".
        name: the argument that an error names.

    Raises:
        InputError: `value` is neither, or less than one byte.
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
    """A memory size as text, such as "3.25 GiB" or "812 MiB".

    Args:
        size: in bytes.
        up: whether to round up, for a budget that has to suffice.
    """
    value, digits, unit = (size / 2**30, 2, "GiB") if size >= 1 << 30 else (size / 2**20, 0, "MiB")
    if up:
        value = math.ceil(value * 10**digits) / 10**digits
    return f"{value:.{digits}f} {unit}"


def default_budget() -> int:
    """The default budget in bytes: `DEFAULT_SHARE` of the available memory."""
    return int(DEFAULT_SHARE * available_bytes())
