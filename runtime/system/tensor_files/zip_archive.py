"""Zip archives from elsewhere, with limits on what reading them may take."""

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["DamagedArchive", "opened_archive", "read_member"]

_MOST_RATIO = 1032  # the most bytes that one byte of a deflated member can hold
_MOST_DIRECTORY_BYTES = 16 << 20  # The directory of a checkpoint with 10,000 tensors takes less than 1 MB.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    EOFError,
    RuntimeError,  # an encrypted member; NotImplementedError, an unknown compression, descends from it
    KeyError,
    IndexError,
    OverflowError,
)


class DamagedArchive(ValueError):
    """A zip archive is damaged, encrypted, or has too large a directory. The message is the reason."""


def opened_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip archive. Close it after use.

    Raises:
        DamagedArchive: the archive is damaged, or has too large a directory.
        OSError: the file cannot be read.
    """
    with _damage():
        _check_directory(path)
        return zipfile.ZipFile(path)


def read_member(archive: zipfile.ZipFile, name: str, most: int | None = None) -> bytes:
    """The content of a member. Its checksum is compared.

    Args:
        archive: the open archive.
        name: the member's name.
        most: the most bytes that it may have. None: as many as the archive can hold.

    Raises:
        DamagedArchive: it is damaged, encrypted or larger, or its compressed bytes cannot hold so much.
        OSError: the file cannot be read.
    """
    with _damage():
        info = archive.getinfo(name)
        if info.file_size > info.compress_size * _MOST_RATIO + 1024 or (most is not None and info.file_size > most):
            raise ValueError(f"{name[:60]!r} claims {info.file_size} bytes")
        with archive.open(info) as member:
            content = member.read(info.file_size)
        if len(content) != info.file_size:
            raise ValueError(f"{name[:60]!r} is cut off")
        return content


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    """Errors of `zipfile` about damage become a `DamagedArchive`."""
    try:
        yield
    except _DAMAGE as error:
        raise DamagedArchive(str(error)) from error


def _check_directory(path: Path) -> None:
    """Refuse an archive with a directory that takes much memory to read."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - (1 << 16) - 22 - 76, 0))  # the longest comment, the end record, and those of zip64
        tail = file.read()
        end = tail.rfind(b"PK\x05\x06")
        if end < 0 or len(tail) < end + 22:
            raise ValueError("its directory is missing")
        length = struct.unpack("<L", tail[end + 12 : end + 16])[0]
        locator = tail[end - 20 : end] if end >= 20 else b""
        if locator.startswith(b"PK\x06\x07"):
            file.seek(min(struct.unpack("<Q", locator[8:16])[0], size))
            records = [file.read(56), tail[max(end - 76, 0) : end - 20]]  # zipfile takes the one before the locator
            length = max([length, *(struct.unpack("<Q", one[40:48])[0] for one in records if len(one) == 56)])
    if length > _MOST_DIRECTORY_BYTES:
        raise ValueError(f"its directory has {length} bytes")
