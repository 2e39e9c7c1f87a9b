"""The free space of the disk, compared with outputs of a known size before they are made."""

import os
from pathlib import Path

from ...errors import OutputError
from ..budget import memory_text

__all__ = ["check_free_space", "free_bytes"]


def free_bytes(folder: Path) -> int | None:
    """The bytes that this user can still write in a folder. None if the system does not say."""
    try:
        if hasattr(os, "statvfs"):
            found = os.statvfs(folder)
            return found.f_bavail * found.f_frsize if found.f_blocks else None  # some file systems count nothing
        import shutil  # imported here: it imports every compression library

        return shutil.disk_usage(folder).free
    except OSError:
        return None


def check_free_space(output: Path, wanted: int) -> None:
    """Refuse an output that the disk certainly cannot hold.

    Args:
        output: the output.
        wanted: the least bytes that it takes.

    Raises:
        OutputError: fewer bytes are free.
    """
    free = free_bytes(output.absolute().parent)
    if free is not None and free < wanted:
        raise OutputError(
            f"cannot write {output}: it takes at least {memory_text(wanted)} and the disk has {memory_text(free)} "
            f"free, so free some space or choose another folder"
        )
