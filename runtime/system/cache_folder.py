"""The user's cache folder, which holds caches and logs. Bundles never hold them."""

import errno
import logging
import os
import stat
import sys
from functools import cache
from pathlib import Path

from .outputs.durable import flush_tree
from .outputs.folder_filling import remove_tree
from .outputs.leftovers import remove_leftovers
from .outputs.writer_mark import WriterMark

__all__ = ["cache_folder", "replace_file", "warn_once"]

_log = logging.getLogger(__name__)


def cache_folder(name: str) -> Path:
    """The folder `name` in LatentRT's cache folder. A missing folder is made, for this user alone.

    The variable LATENTRT_CACHE overrides the place of the cache folder. Engines run what the folder holds (compiled
    models and kernels), so these folders are refused: one that belongs to another user (except root), and one that
    every user may write (unless it has the sticky bit, as /tmp has). A folder that a group may write is used, with a
    warning.

    Raises:
        OSError: the folder cannot be made or is refused, or this user has no home folder and LATENTRT_CACHE is not
            set.
    """
    path = _latentrt_folder()
    path.parent.mkdir(parents=True, exist_ok=True)
    for part in ("", *Path(name).parts):
        path = path / part
        path.mkdir(mode=stat.S_IRWXU, exist_ok=True)
        _refuse_unsafe(path)
    return path


def replace_file(path: Path, content: bytes, *, flush: bool = False) -> None:
    """Write a file of the cache folder whole or not at all, in place of an existing one.

    Args:
        path: the file. A folder of that name is damage, and is removed.
        content: the bytes of the file.
        flush: whether the file must survive a power failure. That takes milliseconds.

    Raises:
        OSError: the file cannot be written.
    """
    remove_leftovers(path)
    mark = WriterMark(path.parent, path)
    try:
        mark.content.write_bytes(content)
        if flush:
            flush_tree(mark.content)
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        mark.content.replace(path)
    finally:
        mark.content.unlink(missing_ok=True)
        mark.remove()


@cache
def warn_once(message: str) -> None:
    """Log a warning about the cache folder, once per process."""
    _log.warning(message)


def _latentrt_folder() -> Path:
    chosen = os.environ.get("LATENTRT_CACHE")
    if chosen:
        return _with_home(Path(chosen))
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or _home() / "AppData" / "Local") / "latentrt" / "cache"
    if sys.platform == "darwin":
        return _home() / "Library" / "Caches" / "latentrt"
    return Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "latentrt"


def _home() -> Path:
    return _with_home(Path("~"))


def _with_home(path: Path) -> Path:
    """The path with the home folder in place of a leading "~", which files of settings hold and no shell replaces."""
    try:
        return path.expanduser()
    except RuntimeError as error:  # a user number without an account, as in some containers
        raise FileNotFoundError(
            errno.ENOENT, "this user has no home folder to keep a cache in: set LATENTRT_CACHE to a folder", "~"
        ) from error


def _refuse_unsafe(folder: Path) -> None:
    """Raise `PermissionError` if another user could put files into the folder."""
    if sys.platform == "win32":  # other users cannot write to the user's profile
        return
    found = folder.stat()
    advice = "set LATENTRT_CACHE to a folder of your own"
    if found.st_uid not in (os.geteuid(), 0):
        reason = f"the cache folder belongs to another user (number {found.st_uid}), so it is not used: {advice}"
        raise PermissionError(errno.EACCES, reason, str(folder))
    # With the sticky bit, as /tmp has it, other users cannot replace folders. The folders that they add are refused.
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        reason = f"every user may write the cache folder, so it is not used: run `chmod o-w {folder}`, or {advice}"
        raise PermissionError(errno.EACCES, reason, str(folder))
    # On most systems, the group with the user's number has no other members.
    if found.st_mode & stat.S_IWGRP and found.st_gid != os.geteuid():
        warn_once(f"{folder}: users of group {found.st_gid} may write to this cache folder, and engines run its files")
