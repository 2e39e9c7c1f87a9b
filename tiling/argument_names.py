"""Names of arguments in the messages of errors, marked so that another interface can write its own names for them.

A function of Python names its arguments (`tile_sample_min_height`), and the command line names options (`--tile`). So
a message marks each argument that it names, and `LatentRTError` keeps the marked message as pieces.
"""

import re
from collections.abc import Callable

__all__ = ["ArgumentName", "Piece", "Spelling", "argument", "pieces_of", "written"]

_OPEN, _VALUE, _CLOSE = "\ue000", "\ue001", "\ue002"  # private characters, which no message has of its own
_MARKED = re.compile(f"{_OPEN}([^{_VALUE}{_CLOSE}]*)(?:{_VALUE}([^{_CLOSE}]*))?{_CLOSE}")

ArgumentName = tuple[str, str | None]
"""The name of an argument, and the value that a message states with it, as Python writes it. None: no value."""
Piece = str | ArgumentName
Spelling = Callable[[str, str | None], str]
"""Writes an argument, given its name and the value that a message states with it."""


def argument(name: str, value: object = ...) -> str:
    """Mark the name of an argument within a message. With `value` the message says `name=value`.

    >>> pieces_of(f"{argument('tile')}: wanted 8, or {argument('pad', True)}")
    (('tile', None), ': wanted 8, or ', ('pad', 'True'))
    """
    return f"{_OPEN}{name}{_CLOSE}" if value is ... else f"{_OPEN}{name}{_VALUE}{value!r}{_CLOSE}"


def pieces_of(message: str) -> tuple[Piece, ...]:
    """A message as pieces: its text, and between the text the arguments that it names."""
    pieces: list[Piece] = []
    end = 0
    for found in _MARKED.finditer(message):
        pieces += [message[end : found.start()], (found[1], found[2])]
        end = found.end()
    return tuple(piece for piece in (*pieces, message[end:]) if piece)


def written(pieces: tuple[Piece, ...], spelling: Spelling | None = None) -> str:
    """The message of these pieces. Without a `spelling` arguments are written as in Python: `name`, or `name=value`."""
    spell = spelling or _as_python
    return "".join(piece if isinstance(piece, str) else spell(*piece) for piece in pieces)


def _as_python(name: str, value: str | None) -> str:
    return name if value is None else f"{name}={value}"
