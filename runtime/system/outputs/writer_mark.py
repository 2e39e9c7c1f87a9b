"""The mark of a writing process: a small file next to an unfinished output, which the process locks while it lives.

A killed process leaves the unfinished output and its mark. The next process that writes the same output removes both,
if it is certain that the writer has ended (see `leftovers.py`). A lock is certain within one machine, with all of its
containers. Other machines may not see it, because some network file systems keep locks to themselves. So the names
also say which machine wrote (see `partial_names.py`), and a machine removes its own leftovers only.

A mark answers "does its writer live?" otherwise than a claim (`claim.py`). A wrong answer would delete the output of a
living process, which may be stopped, asleep or waiting for a disk for hours. So silence does not count here, only the
lock, or an identity that has certainly ended. A wrong claim costs only work, and a claim must end on every machine.
There, silence decides.
"""

import contextlib
import errno
import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from ..advisory_lock import try_lock
from ..process_identity import ProcessIdentity
from .partial_names import PartialName

__all__ = ["Moves", "WriterMark", "abandoned_moves", "own_marks"]

_LOCKED, _UNLOCKED = "locked", "unlocked"
_MOST_BYTES = 1 << 26  # of a mark that is read: the names of a million frames
_STARTING_SECONDS = 3600  # the age at which a mark without content is abandoned; writers fill it within milliseconds
_MOST_TRIES = 10  # to make a mark that no other process takes for abandoned before it is locked

_own: dict[tuple[int, str], tuple[Path, PartialName]] = {}  # by process number (a fork copies this) and path
_guard = threading.Lock()


@dataclass(frozen=True)
class Moves:
    """The entries that a process moves when it fills an existing folder.

    Attributes:
        new: names of the entries that come into the folder.
        old: names of the entries that leave it.
    """

    new: tuple[str, ...] = ()
    old: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The moves in the text of a mark. There are none in a damaged text, and in one that names other folders."""
        try:
            values = json.loads(text)
            new, old = (tuple(values[key]) for key in ("new", "old"))
        except (ValueError, KeyError, TypeError, RecursionError):
            return cls()
        return cls(new, old) if all(map(_is_entry, (*new, *old))) else cls()

    def to_json(self) -> str:
        """The moves as one line."""
        return json.dumps({"new": self.new, "old": self.old})


class WriterMark:
    """The mark that this process made for one output.

    Attributes:
        folder: the folder of the mark.
        name: the names of the mark and of the unfinished output.
    """

    def __init__(self, folder: Path, output: Path) -> None:
        """Make the mark in `folder` for an output, and lock it if the file system has locks.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder = folder
        for _ in range(_MOST_TRIES):
            self.name = PartialName.fresh(output)
            self._file: IO[Any] | None = None
            with _guard:  # first, so that nothing is forgotten if a signal comes now
                _own[os.getpid(), str(self.path.absolute())] = (folder, self.name)
            try:
                if self._made():
                    return
            except BaseException:
                self.remove()
                raise
            self.remove()
        raise OSError(f"other processes remove {self.path.name} at once")

    @property
    def path(self) -> Path:
        return self.folder / self.name.mark

    @property
    def content(self) -> Path:
        """The unfinished file or folder."""
        return self.folder / self.name.content

    def note(self, moves: Moves) -> None:
        """Write down which entries are moved from now on.

        Raises:
            OSError: the disk is full.
        """
        assert self._file is not None
        self._file.write(moves.to_json().encode("ascii"))
        os.fsync(self._file.fileno())

    def leave(self) -> None:
        """Free the lock and let the mark stay, for the next process."""
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        """Remove the mark, and free its lock."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        if self._file is not None:
            self._file.close()
            with contextlib.suppress(OSError):  # Windows removes no file that is open
                self.path.unlink(missing_ok=True)
        with _guard:
            _own.pop((os.getpid(), str(self.path.absolute())), None)

    def _made(self) -> bool:
        """Make the file. False if another process took it for abandoned before it was locked."""
        self._file = self.path.open("x+b", buffering=0)
        held = _UNLOCKED
        with contextlib.suppress(OSError):  # a file system without locks
            if not try_lock(self._file):
                return False
            held = _LOCKED
        if not _is_file_at(self._file, self.path):
            return False
        self._file.write(f"{ProcessIdentity.own().to_text()} {held}\n".encode("ascii", "replace"))
        return True


def own_marks() -> list[tuple[Path, PartialName, Moves]]:
    """The folders, the names and the noted moves of the marks that this process has made and not removed."""
    with _guard:
        marks = [mark for (process, _), mark in _own.items() if process == os.getpid()]
    found = []
    for folder, name in marks:
        try:
            text = (folder / name.mark).read_text(encoding="ascii", errors="replace")
        except OSError:  # it was not made yet
            text = ""
        found.append((folder, name, Moves.from_json(text.partition("\n")[2])))
    return found


@contextlib.contextmanager
def abandoned_moves(folder: Path, name: PartialName) -> Iterator[Moves | None]:
    """Look whether the writer of a mark has certainly ended.

    The context gives the moves that the writer noted, or None if the writer may live. Within the context no other
    process gets the same mark.
    """
    path = folder / name.mark
    if not name.is_of_this_host:
        yield None
        return
    try:
        file = _opened(path)
    except OSError:
        yield None
        return
    with file:
        try:
            moves = _moves_if_abandoned(file, path)
        except OSError:
            moves = None
        yield moves


def _moves_if_abandoned(file: IO[Any], path: Path) -> Moves | None:
    if hasattr(os, "geteuid") and os.fstat(file.fileno()).st_uid != os.geteuid():
        return None  # another user's mark must not say which of our files go
    locked: bool | None = None
    with contextlib.suppress(OSError):
        locked = try_lock(file)
    if locked is False or not _is_file_at(file, path):
        return None
    first, _, rest = file.read(_MOST_BYTES).decode("ascii", "replace").partition("\n")
    words, _, held = first.rpartition(" ")
    writer = ProcessIdentity.from_text(words)
    if locked and held != _UNLOCKED:
        has_ended = True  # also if the mark is empty: its writer locks it before it writes
    elif writer is not None:
        has_ended = writer.has_ended()
    else:
        has_ended = time.time() - os.fstat(file.fileno()).st_mtime > _STARTING_SECONDS
    return Moves.from_json(rest) if has_ended else None


def _opened(path: Path) -> IO[Any]:
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "r+b", buffering=0)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # reading a pipe might never end
        file.close()
        raise OSError(errno.EINVAL, "it is no ordinary file", str(path))
    return file


def _is_file_at(file: IO[Any], path: Path) -> bool:
    """Whether `path` still names the open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except OSError:
        return False


def _is_entry(name: object) -> bool:
    """Whether a value is the name of an entry of a folder, and no path to elsewhere."""
    return isinstance(name, str) and name not in ("", ".", "..") and name == Path(name).name and "\0" not in name
