"""The order of the numbers of a size, which a command says once if it prints sizes."""

import re

__all__ = ["size_order"]

_SIZE = re.compile(r"(?<![\w.])\d+x\d+(x\d+)?(?![\w.])")


def size_order(text: str) -> str | None:
    """A phrase that says in which order the sizes in `text` have their numbers. None if it holds no size.

    Args:
        text: what a command prints, without names of files, which may hold a size in any order.

    >>> size_order("tiles of 256x512")
    'sizes are height x width'
    """
    found = [match[1] for match in _SIZE.finditer(text)]
    if not found:
        return None
    return "sizes are height x width x frames" if any(found) else "sizes are height x width"
