"""Progress on standard error: bars for long work, and a line while the planner measures.

Both show only on a terminal.
"""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import click

from .terminal import one_line

__all__ = ["ProgressUpdate", "calibration_notice", "progress_bar"]

_CLEARED_LINE = "\r\033[K"  # a progress bar may stand there
_SHOWN_CURSOR = "\033[?25h"  # click hides the cursor while it shows a bar


class ProgressUpdate(Protocol):
    """Moves a progress bar; `detail` is shown behind the rate."""

    def __call__(self, what: str, done: int, total: int, detail: str = "") -> None: ...


@contextmanager
def progress_bar(label: str, *, hidden: bool = False) -> Iterator[ProgressUpdate]:
    """A progress bar on standard error, which also shows the rate per second.

    The bar takes a unit, how many are done, and how many there are in all. It shows one unit to its end before it
    shows another one. It does not show one of one. A bar with a detail is removed when it is full. Nothing is shown
    if `hidden`, with --quiet, or if standard error is not a terminal.
    """
    bar: Any = None
    counted, started, shown = "", 0.0, ""
    stream, label = sys.stderr, one_line(label)
    hidden = hidden or _is_quiet()

    def rate(_: Any) -> str:
        seconds = time.monotonic() - started
        per_second = f"{bar.pos / seconds:.2f} {counted}/s" if bar is not None and bar.pos and seconds else ""
        return ", ".join(filter(None, (per_second, shown)))

    def close() -> None:
        if bar is not None:
            bar.__exit__(None, None, None)

    def update(what: str, done: int, total: int, detail: str = "") -> None:
        nonlocal bar, counted, started, shown
        detail = one_line(detail)  # a file's name
        if hidden or total == 1 or not stream.isatty():
            return
        if not total:  # the file does not say how many there will be
            click.echo(f"\r{label}: {done} {one_line(what)}", nl=False, file=stream)
            return
        if what != counted:
            if bar is not None and bar.pos < bar.length:
                return
            close()
            counted, started, shown = what, time.monotonic(), detail
            click.echo(_CLEARED_LINE, nl=False, file=stream)
            bar = click.progressbar(length=total, label=label, file=stream, show_pos=True, item_show_func=rate)
            bar.__enter__()
        if detail and done == total:
            bar, counted = None, ""
            click.echo(_CLEARED_LINE + _SHOWN_CURSOR, nl=False, file=stream)
            return
        if detail != shown:
            shown = detail
            bar.render_progress()
        bar.update(done - bar.pos)

    try:
        yield update
    finally:
        close()


@contextmanager
def calibration_notice(*, hidden: bool = False) -> Iterator[None]:
    """While the planner calibrates, show on standard error what it measures: for long clips that takes minutes.

    Nothing is shown if `hidden`, with --quiet, if standard error is not a terminal, or with --verbose, which logs the
    same.
    """
    log = logging.getLogger("latentrt.runtime.planner.calibration")
    if hidden or _is_quiet() or not sys.stderr.isatty() or log.isEnabledFor(logging.INFO):
        yield
        return
    notice, level = _Notice(), log.level
    log.addFilter(notice)  # a filter, not a handler: the root's handlers would print the record once more
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeFilter(notice)
        if notice.count:
            click.echo(_CLEARED_LINE, err=True, nl=False)


def _is_quiet() -> bool:
    """Whether the user gave --quiet."""
    return not logging.getLogger().isEnabledFor(logging.WARNING)


class _Notice(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            return True
        self.count += 1
        text = f"measuring once, and kept: small call {self.count}, {record.getMessage()}"
        click.echo(f"{_CLEARED_LINE}{one_line(text)}", err=True, nl=False)
        return False
