"""What latentrt logs while something is measured."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["heard"]


@contextmanager
def heard() -> Iterator[list[str]]:
    """The messages of everything that is logged within it, from INFO on."""
    lines: list[str] = []
    logger, handler = logging.getLogger("latentrt"), _Listed(lines)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Listed(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())
