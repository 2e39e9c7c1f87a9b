"""What was assumed or left out when a picture or clip was read: one line for each fact of a file."""

import logging
import threading
from collections import Counter
from pathlib import Path

__all__ = ["note"]

_LOG = logging.getLogger(__name__)
_MOST_FILES = 8  # of one kind of fact, in a folder: 10,000 clips must not print 10,000 lines
_MOST_REMEMBERED = 10_000  # sentences and folders, so that a server's memory stays bounded

_lock = threading.Lock()
_said: set[tuple[Path, str]] = set()
_files: Counter[tuple[Path, str]] = Counter()


def note(path: Path, kind: str, sentence: str) -> None:
    """Log one sentence about a file as a warning, once for each file: a clip may be opened several times.

    After eight files of a folder with the same `kind` of fact, further ones are logged at level INFO.

    Args:
        path: the file.
        kind: one word for the fact, "sound" for instance.
        sentence: what follows the file's name in the line.
    """
    with _lock:
        if (path, sentence) in _said:
            return
        if len(_said) >= _MOST_REMEMBERED:
            _said.clear()
            _files.clear()
        _said.add((path, sentence))
        _files[path.parent, kind] += 1
        count = _files[path.parent, kind]
    _LOG.log(logging.WARNING if count <= _MOST_FILES else logging.INFO, "%s %s", path, sentence)
    if count == _MOST_FILES:
        _LOG.warning("(further files of this folder like that are named with -v only)")
