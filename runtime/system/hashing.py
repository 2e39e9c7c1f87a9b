"""SHA-256 of files, computed while they are written or read in pieces."""

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["HashingWriter", "sha256_of"]

_PIECE_BYTES = 1 << 22


class HashingWriter:
    """A new file that is hashed as it is written; a context manager."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: Any) -> None:
        """Append bytes, or anything that offers its bytes without a copy."""
        view = memoryview(data)
        self._file.write(view)
        self._hash.update(view)
        self.size_bytes += view.nbytes

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
