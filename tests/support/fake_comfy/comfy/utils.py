"""Progress bars that remember what they showed."""

from typing import Any

__all__ = ["ProgressBar"]


class ProgressBar:
    """Each update becomes an entry (value, total, preview) of `shown`, a list of all bars together."""

    shown: list[tuple[int, int, Any]] = []  # noqa: RUF012 # one list for all bars, which tests clear

    def __init__(self, total: int) -> None:
        self.total = total

    def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
        """Show `value` of `total` steps, and perhaps a picture."""
        self.total = self.total if total is None else total
        self.shown.append((value, self.total, preview))
