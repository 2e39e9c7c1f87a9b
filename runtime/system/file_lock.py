"""A lock between processes, for files that several processes read, change and write again."""

import contextlib
import errno
import hashlib
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .advisory_lock import release_lock, try_lock
from .cache_folder import cache_folder

__all__ = ["locked"]

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.05
_MOST_NAME_BYTES = 100


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file while the body runs; wait until the lock is free.

    The lock keeps out other processes and threads that call this function. It is a hidden file next to `path`, which
    is removed at the end. So it also holds between containers and users that share the folder and nothing else. If
    that folder cannot be written, or its file system has no locks, the lock is a file in the cache folder. If that
    fails too, there is no lock, and the body runs at once. The system frees the lock when the process ends, also when
    it is killed.
    """
    file = _taken(_lock_next_to(path)) or _taken(_lock_in_cache(path))
    if file is None:
        _log.info("%s is changed without a lock: neither its folder nor the cache folder has locks", path)
        yield
        return
    try:
        yield
    finally:
        _free(*file)


def _lock_next_to(path: Path) -> Path:
    name = path.name
    if len(os.fsencode(name)) > _MOST_NAME_BYTES:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return path.absolute().parent / f".{name}.lock"


def _lock_in_cache(path: Path) -> Path | None:
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]
    try:
        return cache_folder("locks") / f"{name}.lock"
    except OSError:
        return None


def _taken(path: Path | None) -> tuple[IO[Any], Path] | None:
    """Wait for the lock at `path`. None if there is no such folder, it cannot be written, or it has no locks."""
    while path is not None:
        file = None
        try:
            file = _opened(path)
            while not try_lock(file):
                time.sleep(_POLL_SECONDS)
            # The process that held the lock has removed the file. A later process would not see this lock.
            if os.path.samestat(os.fstat(file.fileno()), path.lstat()):
                return file, path
        except FileNotFoundError:
            if file is None:
                return None
        except OSError as error:
            if error.errno != errno.ESTALE:  # a network file system: another machine has removed the file
                _log.info("%s: there is no lock (%s)", path, error)
                if file is not None:
                    with contextlib.suppress(OSError):
                        if os.path.samestat(os.fstat(file.fileno()), path.lstat()):
                            path.unlink()
                    file.close()
                return None
        except BaseException:
            if file is not None:
                file.close()
            raise
        if file is not None:
            file.close()
    return None


def _opened(path: Path) -> IO[Any]:
    """Open a lock file, which is made if it is absent. A link or a pipe of that name is refused: a folder from another
    person may hold one."""
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o666), "r+b", buffering=0)
    except PermissionError:  # another user's lock: it can be locked without writing to it
        file = os.fdopen(os.open(path, os.O_RDONLY | flags), "rb", buffering=0)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no ordinary file", str(path))
    return file


def _free(file: IO[Any], path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
    with contextlib.suppress(OSError):
        release_lock(file)
    file.close()
    if os.name == "nt":  # Windows removes no file that is open
        with contextlib.suppress(OSError):
            path.unlink()
