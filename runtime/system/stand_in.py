"""What often lies in the place of a file: a Git LFS pointer, a web page, the answer of a server, or nothing.

Such a file has the right name and the wrong content. The error names the content, because fetching the file again in
the same way brings the same content.
"""

from pathlib import Path

from .file_kinds import FileKind, kind_of, kind_of_bytes

__all__ = ["StandIn", "stand_in", "stand_in_at"]

_STAND_INS = ("empty", "git-lfs", "git-annex", "html", "answer")  # names of kinds


class StandIn(ValueError):
    """Something else lies in the place of a file. The message can end a sentence, and says what to do."""


def stand_in(start: bytes) -> str | None:
    """Say what lies in the place of a file, and what to do; None if the file may be what its name says.

    Args:
        start: the first bytes of the file, a few hundred or all of them.

    Returns:
        The end of a sentence whose subject is the file.
    """
    return _reason(kind_of_bytes(start, len(start)))


def stand_in_at(path: Path) -> str | None:
    """Say what lies in the place of the file at `path`, as `stand_in` does; None if the file cannot be read."""
    return _reason(kind_of(path)) if path.is_file() else None  # opening a pipe waits until something is written to it


def _reason(kind: FileKind | None) -> str | None:
    return f"it is {kind.text}: {kind.cure}" if kind is not None and kind.name in _STAND_INS else None
