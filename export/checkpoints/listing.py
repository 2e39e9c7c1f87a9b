"""Names of tensors in messages. They come from files, so they may be of any length and hold anything."""

import itertools
from collections.abc import Iterable

__all__ = ["listed"]

_MAX_NAMES = 3
_MAX_LENGTH = 120


def listed(names: Iterable[str]) -> str:
    """The first few names, on one line. Of an iterator no more is taken than is shown, and one."""
    remaining = iter(names)
    shown = [_printable(name) for name in itertools.islice(remaining, _MAX_NAMES)]
    return ", ".join(shown) + (", ..." if next(remaining, None) is not None else "")


def _printable(name: str) -> str:
    short = name if len(name) <= _MAX_LENGTH else f"{name[:_MAX_LENGTH]}..."
    return short if short.isprintable() else ascii(short)
