"""Memory budgets of calls: reading them, writing them, and the default."""

import math
import operator
import re

from ...tiling.argument_names import argument
from ...tiling.plain_text import shown
from ..errors import InputError
from .available_memory import available_bytes

__all__ = ["DEFAULT_SHARE", "default_budget", "memory_text", "parse_memory"]

DEFAULT_SHARE = 0.7
"""The default budget of a call, as a share of the memory that is available when the call starts."""

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {unit: 1 << 10 * power for power, letter in enumerate("KMGT", 1) for unit in (letter, f"{letter}IB")}
_LEAST_WITHOUT_UNIT = 1 << 20  # bytes: no call takes less, so a smaller number lacks its unit


def parse_memory(value: int | str, name: str = "memory") -> int:
    """A memory size in bytes.

    Args:
        value: a whole number of bytes, or a text such as "8GiB", "8G", "800 MiB" or "8GB". Upper and lower case are
            the same. "G" is GiB, as for Docker and Java, and "GB" is 10^9 bytes; K, M and T likewise.
        name: the argument that an error names.

    Raises:
        InputError: `value` is neither, or less than one byte, or a number without a unit that is less than 1 MiB.
    """
    size, bare = None, False
    if hasattr(value, "__index__") and not isinstance(value, bool):
        size, bare = operator.index(value), True
    elif isinstance(value, str):
        found = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([a-zA-Z]{0,3})\s*", value)
        if found and not found[2]:
            size, bare = int(float(found[1])), True
        elif found and found[2].upper() in _UNITS:
            size = int(float(found[1]) * _UNITS[found[2].upper()])
    named = argument(name)
    if size is None or size < 1:
        raise InputError(
            f'{named}: wanted bytes, or a size such as "8GiB", "800MiB" or "8GB", got {shown(value)}{_cure(value)}'
        )
    if bare and size < _LEAST_WITHOUT_UNIT:
        number = str(value).strip()
        raise InputError(
            f"{named}: {number} without a unit is {memory_text(size)}, and no call takes so little: write {number}GiB "
            f"or {number}MiB"
        )
    return size


def _cure(value: object) -> str:
    if isinstance(value, str) and value.strip().endswith("%"):
        return ": a share of the memory is not taken; without this option a plan takes 70 % of the free memory"
    if isinstance(value, str) and re.fullmatch(r"\s*\d+,\d+\s*[a-zA-Z]*\s*", value):
        return f": write {value.strip().replace(',', '.')}"
    return ""


def memory_text(size: float, *, up: bool = False) -> str:
    """A memory size as text, such as "3.25 GiB", "812 MiB" or "2 bytes".

    Args:
        size: in bytes.
        up: whether to round up, for a budget that has to suffice.
    """
    if size < 1 << 20 and not up:
        return f"{size / 2**10:.0f} KiB" if size >= 1 << 10 else f"{size:.0f} byte{'' if size == 1 else 's'}"
    value, digits, unit = (size / 2**30, 2, "GiB") if size >= 1 << 30 else (size / 2**20, 0, "MiB")
    if up:
        value = math.ceil(value * 10**digits) / 10**digits
    return f"{value:.{digits}f} {unit}"


def default_budget() -> int:
    """The default budget in bytes: `DEFAULT_SHARE` of the available memory."""
    return int(DEFAULT_SHARE * available_bytes())
