"""Notes about files: one line in the log for each fact that was assumed or left out when a file was read."""

import logging
import threading
from collections import Counter
from pathlib import Path

__all__ = ["note"]

_LOG = logging.getLogger(__name__)
_MOST_FILES = 8  # warnings per folder and kind of fact, so that 10,000 clips do not print 10,000 lines
_MOST_REMEMBERED = 10_000  # notes that are remembered, so that a server's memory stays bounded

_lock = threading.Lock()
_logged: set[tuple[Path, str]] = set()  # file and sentence
_files: Counter[tuple[Path, str]] = Counter()  # files by folder and kind of fact


def note(path: Path, kind: str, sentence: str) -> None:
    """Log a sentence about a file as a warning. The same note about the same file is logged once.

    After eight files of a folder with the same `kind` of fact, notes about further files have the level INFO.

    Args:
        path: the file.
        kind: one word for the fact, such as "sound".
        sentence: the text after the file's name.
    """
    with _lock:
        if (path, sentence) in _logged:
            return
        if len(_logged) >= _MOST_REMEMBERED:
            _logged.clear()
            _files.clear()
        _logged.add((path, sentence))
        _files[path.parent, kind] += 1
        count = _files[path.parent, kind]
    _LOG.log(logging.WARNING if count <= _MOST_FILES else logging.INFO, "%s %s", path, sentence)
    if count == _MOST_FILES:
        _LOG.warning("(similar notes about further files of this folder are shown with -v)")
