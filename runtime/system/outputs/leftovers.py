"""Removes unfinished outputs whose process was killed, when the same output is written again."""

import contextlib
import logging
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from .folder_filling import undo_filling
from .partial_names import PartialName
from .writer_mark import Moves, abandoned_moves, own_marks

__all__ = ["remove_leftovers", "remove_own_leftovers"]

_log = logging.getLogger(__name__)
_LISTING_SHARE = 100  # A folder is listed again after this many times the duration of its last listing.
_MOST_LISTINGS = 1000  # folders that are remembered


@dataclass
class _Listing:
    """The marks in a folder.

    Attributes:
        next_time: when to list the folder again, on the monotonic clock.
        marks: the marks that were found, and that were not looked at since.
    """

    next_time: float = 0.0
    marks: set[PartialName] = field(default_factory=set)


_listings: dict[str, _Listing] = {}
_guard = threading.Lock()


def remove_leftovers(path: Path) -> None:
    """Remove what earlier processes left of the output `path` when they were killed.

    Only files with our own hidden names for this output are removed, and only if their writer has certainly ended.
    If such a writer was moving entries into the folder `path`, these moves are undone.
    """
    for folder in (path.absolute().parent, path.absolute()):
        for name in _marks_of(path, folder):
            with abandoned_moves(folder, name) as moves:
                if moves is not None:
                    _log.info("%s: a killed process left %s, which is removed", folder, name.content)
                    # Only marks within the output's own folder are about entries that were moved.
                    _remove(folder, name, moves if folder == path.absolute() else Moves())


def remove_own_leftovers() -> None:
    """Remove the unfinished outputs of this process, which an interrupted clean-up left.

    A command calls this before a signal ends it.
    """
    for folder, name, moves in own_marks():
        _remove(folder, name, moves)


def _remove(folder: Path, name: PartialName, moves: Moves) -> None:
    try:
        undo_filling(folder, name, moves)
    except OSError as error:
        _log.info("%s cannot be removed: %s", folder / name.content, error)
        return
    with contextlib.suppress(OSError):
        (folder / name.mark).unlink(missing_ok=True)


def _marks_of(path: Path, folder: Path) -> list[PartialName]:
    """The marks of an output in a folder.

    A large folder is not listed for each of its outputs: the work for all of them would grow with the square of their
    number.
    """
    with _guard:
        listing = _listings.get(str(folder))
        if listing is None:
            if len(_listings) >= _MOST_LISTINGS:
                _listings.clear()
            listing = _listings[str(folder)] = _Listing()
        started = time.monotonic()
        if started >= listing.next_time:
            listing.marks = _marks_in(folder)
            now = time.monotonic()
            listing.next_time = now + _LISTING_SHARE * (now - started)
        found = [name for name in listing.marks if name.belongs_to(path)]
        listing.marks.difference_update(found)
        return found


def _marks_in(folder: Path) -> set[PartialName]:
    try:
        with os.scandir(folder) as entries:
            return {name for entry in entries if (name := PartialName.of_mark(entry.name)) is not None}
    except OSError:  # there is no such folder
        return set()
