"""The system's lock on an open file. The system frees it when the process ends, however it ends."""

import sys
from typing import IO, Any

__all__ = ["release_lock", "try_lock"]

if sys.platform == "win32":
    import msvcrt

    def try_lock(file: IO[Any]) -> bool:
        """Take the lock of an open file if it is free, and say whether this succeeded.

        Raises:
            OSError: the file system has no locks.
        """
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def release_lock(file: IO[Any]) -> None:
        """Free the lock, which this process holds."""
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def try_lock(file: IO[Any]) -> bool:
        """Take the lock of an open file if it is free, and say whether this succeeded.

        It never waits: a waiting `flock` in a thread is not interrupted by Ctrl-C.

        Raises:
            OSError: the file system has no locks, as some network file systems.
        """
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release_lock(file: IO[Any]) -> None:
        """Free the lock, which this process holds."""
        fcntl.flock(file, fcntl.LOCK_UN)
