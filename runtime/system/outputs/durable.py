"""Files that survive a power failure: their content is on the disk before they get their names."""

import contextlib
import errno
import os
from pathlib import Path

__all__ = ["flush_folder", "flush_tree"]

# File systems that cannot flush report these.
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, getattr(errno, "EOPNOTSUPP", errno.EINVAL))


def flush_tree(path: Path) -> None:
    """Write a file, or a folder with everything in it, to the disk.

    Raises:
        OSError: the disk refuses the content, for example because it is full. Some file systems report that only now.
    """
    if path.is_symlink() or not path.is_dir():
        _flush_file(path)
        return
    for folder, _, names in os.walk(path):
        for name in names:
            if (file := Path(folder, name)).is_file() and not file.is_symlink():
                _flush_file(file)
        flush_folder(Path(folder))


def flush_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, if the system can do that for a folder."""
    with contextlib.suppress(OSError):  # Windows, and network file systems
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _flush_file(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except PermissionError:  # a file that is a second name of a read-only one
        descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)
