"""Lists of tensor names for messages. Names come from files: they may have any length and hold any character."""

import itertools
from collections.abc import Iterable

__all__ = ["listed"]

_MAX_NAMES = 3
_MAX_LENGTH = 120  # characters of a name


def listed(names: Iterable[str]) -> str:
    """Return the first three names on one line, and "..." if there are more.

    An iterator is advanced by at most four names.
    """
    remaining = iter(names)
    shown = [_printable(name) for name in itertools.islice(remaining, _MAX_NAMES)]
    return ", ".join(shown) + (", ..." if next(remaining, None) is not None else "")


def _printable(name: str) -> str:
    short = name if len(name) <= _MAX_LENGTH else f"{name[:_MAX_LENGTH]}..."
    return short if short.isprintable() else ascii(short)
