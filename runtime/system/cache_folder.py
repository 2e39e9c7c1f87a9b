"""Where caches and logs live: the user's cache folder, never a bundle."""

import errno
import logging
import os
import stat
import sys
from functools import cache
from pathlib import Path

__all__ = ["cache_folder", "replace_file", "warn_once"]

_log = logging.getLogger(__name__)


def cache_folder(name: str) -> Path:
    """The folder `name` within LatentRT's cache folder, which LATENTRT_CACHE overrides; made, for this user alone, if
    it is not there.

    Engines run what lies there (compiled models and kernels), so a folder is refused that another user owns (root may)
    or that every user may write (unless it has the sticky bit, as /tmp has). One that a group may write is used, with a
    warning.

    Raises:
        OSError: it cannot be made, it is refused, or this user has no home folder and LATENTRT_CACHE is not set.
    """
    path = _root()
    path.parent.mkdir(parents=True, exist_ok=True)
    for part in ("", *Path(name).parts):
        path = path / part
        path.mkdir(mode=stat.S_IRWXU, exist_ok=True)
        _refuse_others(path)
    return path


def replace_file(path: Path, content: bytes) -> None:
    """Write a file of the cache folder, whole or not at all; one that is there is replaced.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.partial")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@cache
def warn_once(message: str) -> None:
    """Log a warning about the cache folder once in a process."""
    _log.warning(message)


def _root() -> Path:
    chosen = os.environ.get("LATENTRT_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or _home() / "AppData" / "Local") / "latentrt" / "cache"
    if sys.platform == "darwin":
        return _home() / "Library" / "Caches" / "latentrt"
    return Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "latentrt"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:  # a user number without an account, as containers have it
        raise FileNotFoundError(
            errno.ENOENT, "this user has no home folder to keep a cache in: set LATENTRT_CACHE to a folder"
        ) from error


def _refuse_others(folder: Path) -> None:
    """Raise `PermissionError` where another user could put files of theirs into the folder."""
    if sys.platform == "win32":  # the user's profile is the user's own
        return
    found = folder.stat()
    advice = "set LATENTRT_CACHE to a folder of your own"
    if found.st_uid not in (os.geteuid(), 0):
        reason = f"the cache folder belongs to another user (number {found.st_uid}), so it is not used: {advice}"
        raise PermissionError(errno.EACCES, reason, str(folder))
    # With the sticky bit, as /tmp has it, others may add folders, which are refused as theirs, and replace none.
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        reason = f"every user may write the cache folder, so it is not used: run `chmod o-w {folder}`, or {advice}"
        raise PermissionError(errno.EACCES, reason, str(folder))
    # A group with the user's own number is the user's alone, as most systems have it.
    if found.st_mode & stat.S_IWGRP and found.st_gid != os.geteuid():
        warn_once(
            f"{folder}: the users of group {found.st_gid} may write this cache folder, and engines run what it holds"
        )
