"""A lock between processes, for files that several processes read, change and write again."""

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .cache_folder import cache_folder

__all__ = ["locked"]

_POLL_SECONDS = 0.05


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder while the body runs; wait until the lock is free.

    The lock keeps out other processes and threads of this user that call this function. It is a file in the cache
    folder, so no file appears next to `path`. If the cache folder cannot be used, there is no lock, and the body runs
    at once. The system frees the lock when the process ends, also when it is killed.
    """
    try:
        name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]
        file = (cache_folder("locks") / f"{name}.lock").open("ab")
    except OSError:
        yield
        return
    with file:
        _acquire(file)
        try:
            yield
        finally:
            _release(file)


if sys.platform == "win32":
    import msvcrt

    def _acquire(file: IO[Any]) -> None:
        while True:
            try:
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            except OSError:
                time.sleep(_POLL_SECONDS)
            else:
                return

    def _release(file: IO[Any]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _acquire(file: IO[Any]) -> None:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # no blocking flock: in a thread, Ctrl-C does not interrupt it
                time.sleep(_POLL_SECONDS)
            else:
                return

    def _release(file: IO[Any]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
