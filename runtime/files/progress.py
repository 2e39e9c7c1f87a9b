"""Reports of progress while a file is encoded or decoded."""

from collections.abc import Callable
from functools import partial

__all__ = ["FileProgress", "counting"]

FileProgress = Callable[[str, int, int], None]
"""Called with the kind of item ("tiles", "frames" or "pictures"), how many are done, and how many there are. It may
raise to stop the work."""


def counting(what: str, progress: FileProgress | None) -> Callable[[int, int], None] | None:
    """A callback `(done, total)` that reports one kind of item to `progress`. None if `progress` is None."""
    return None if progress is None else partial(progress, what)
