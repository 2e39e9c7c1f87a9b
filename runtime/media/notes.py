"""Notes about files: one line in the log for each fact that was assumed or left out when a file was read."""

import logging
import threading
from collections import Counter
from pathlib import Path

from ...tiling.plain_text import visible
from ..system.forked_process import observe_forks

__all__ = ["note"]

_LOG = logging.getLogger(__name__)
_MOST_FILES = 8  # warnings per folder and kind of fact, so that 10,000 clips do not print 10,000 lines
_MOST_REMEMBERED = 10_000  # notes that are remembered, so that a server's memory stays bounded


class _Notes:
    """The notes that were logged.

    Attributes:
        lock: held while the notes are read and changed.
        logged: file and sentence of each note.
        files: how many files had a note, by folder and kind of fact.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.logged: set[tuple[Path, str]] = set()
        self.files: Counter[tuple[Path, str]] = Counter()
        observe_forks(self)

    def after_fork(self) -> None:
        self.lock = threading.Lock()


_notes = _Notes()


def note(path: Path, kind: str, sentence: str) -> None:
    """Log a sentence about a file as a warning. The same note about the same file is logged once.

    After eight files of a folder with the same `kind` of fact, notes about further files have the level INFO.

    Args:
        path: the file.
        kind: one word for the fact, such as "sound".
        sentence: the text after the file's name.
    """
    with _notes.lock:
        if (path, sentence) in _notes.logged:
            return
        if len(_notes.logged) >= _MOST_REMEMBERED:
            _notes.logged.clear()
            _notes.files.clear()
        _notes.logged.add((path, sentence))
        _notes.files[path.parent, kind] += 1
        count = _notes.files[path.parent, kind]
    _LOG.log(logging.WARNING if count <= _MOST_FILES else logging.INFO, "%s %s", visible(str(path)), sentence)
    if count == _MOST_FILES:
        _LOG.warning("(similar notes about further files of this folder are shown with -v)")
