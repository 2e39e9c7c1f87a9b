"""Members of zip archives from elsewhere, with limits on what reading them may take."""

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from ..errors import MediaError

__all__ = ["opened_archive", "read_member"]

_MOST_RATIO = 1032  # the most bytes that one byte of a deflated member can hold
_MOST_MEMBERS = 10_000
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    ValueError,
    EOFError,
    RuntimeError,  # an encrypted member; NotImplementedError, an unknown compression, descends from it
    KeyError,
    IndexError,
    OverflowError,
)


@contextlib.contextmanager
def opened_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive. Errors of reading it become a `MediaError`, here and in the body.

    Raises:
        MediaError: the archive is damaged, encrypted or too large a list of members.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if len(archive.filelist) > _MOST_MEMBERS:
                raise MediaError(f"{path} is an archive of {len(archive.filelist)} files: give a latents file")
            yield archive
    except _DAMAGE as error:
        raise MediaError(f"{path} is not a whole archive ({error}): replace it") from error


def read_member(archive: zipfile.ZipFile, name: str, most: int | None = None) -> bytes:
    """The content of a member. Its checksum is compared.

    Args:
        archive: the open archive.
        name: the member's name.
        most: the most bytes that it may have. None: as many as the archive can hold.

    Raises:
        ValueError: it is larger, or its compressed bytes cannot hold so much.
        Exception: an exception of `zipfile` for damaged archives.
    """
    info = archive.getinfo(name)
    if info.file_size > info.compress_size * _MOST_RATIO + 1024 or (most is not None and info.file_size > most):
        raise ValueError(f"{name[:60]!r} claims {info.file_size} bytes")
    with archive.open(info) as member:
        content = member.read(info.file_size)
    if len(content) != info.file_size:
        raise ValueError(f"{name[:60]!r} is cut off")
    return content
