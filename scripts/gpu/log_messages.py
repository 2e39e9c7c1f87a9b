"""Collects the log messages of latentrt during a measurement."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["log_messages"]


@contextmanager
def log_messages() -> Iterator[list[str]]:
    """Yield a list to which each message of latentrt is appended while the body runs, from level INFO on."""
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
