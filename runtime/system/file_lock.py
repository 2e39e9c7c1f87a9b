"""One process at a time: for files that several read, change and write again."""

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
    """Hold what `path` names, a file or a folder, against other processes and threads of this user that ask for it
    here; wait until it is free. The lock is a file in the cache folder, so that nothing appears beside `path`; where
    none can be made, nobody is kept out.

    It goes with the process, however that ends.
    """
    try:
        name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]
        file = (cache_folder("locks") / f"{name}.lock").open("ab")
    except OSError:
        yield
        return
    with file:
        _take(file)
        try:
            yield
        finally:
            _give_back(file)


if sys.platform == "win32":
    import msvcrt

    def _take(file: IO[Any]) -> None:
        while True:
            try:
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            except OSError:
                time.sleep(_POLL_SECONDS)
            else:
                return

    def _give_back(file: IO[Any]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _take(file: IO[Any]) -> None:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # waiting within flock would not hear Ctrl-C in a thread
                time.sleep(_POLL_SECONDS)
            else:
                return

    def _give_back(file: IO[Any]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
