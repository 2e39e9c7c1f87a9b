"""SHA-256 of files, computed while they are written or read."""

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["HashingWriter", "sha256_of"]

_PIECE_BYTES = 1 << 22


class HashingWriter:
    """A new file whose SHA-256 is computed while it is written; a context manager.

    Attributes:
        size_bytes: how much has been written.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: Any) -> None:
        """Append bytes, or an object with the buffer protocol."""
        view = memoryview(data)
        self._file.write(view)
        self._hash.update(view)
        self.size_bytes += view.nbytes

    def hexdigest(self) -> str:
        """The hex SHA-256 of the bytes written so far."""
        return self._hash.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of a file, which is read in pieces of 4 MiB.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
