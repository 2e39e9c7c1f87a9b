"""What the command line prints: the one place where text from files and libraries reaches a terminal.

A terminal acts on control characters: they can rewrite what stands on the screen, set the window's title, or fill the
clipboard. File names, metadata, manifests and messages of libraries may hold them. So everything that is printed goes
through `echo`, `one_line` or the log's formatter, which show such characters as escapes, such as \\x1b for ESC.
"""

import io
import logging
import sys
import traceback
from types import TracebackType

import click

from ..tiling.plain_text import as_line, visible

__all__ = ["LogFormatter", "echo", "one_line", "print_traceback", "show_usage_error"]

_MOST_OF_A_LINE = 2000  # characters; lines of a report may be longer than messages


def one_line(text: object) -> str:
    """A message, label or line of the log: no control characters, and at most 600 characters."""
    return as_line(str(text))


def echo(*lines: object) -> None:
    """Print lines on standard output. A newline within one is shown as an escape: otherwise a name in a file could look
    like a line of ours."""
    for line in lines:
        click.echo(as_line(str(line), _MOST_OF_A_LINE))


class LogFormatter(logging.Formatter):
    """Each record as one line; a traceback, if there is one, in lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        text = one_line(record.getMessage())
        if record.exc_info:
            text += "\n" + visible(self.formatException(record.exc_info), lines=True)
        return text


def show_usage_error(error: click.ClickException) -> None:
    """Print the error of wrong usage. click quotes arguments, and these may be names of files."""
    text = io.StringIO()
    error.show(file=text)
    click.echo(visible(text.getvalue(), lines=True), nl=False, err=True)


def print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """`sys.excepthook` of the command: a bug's traceback quotes what files and libraries said."""
    text = "".join(traceback.format_exception(kind, error, trace))
    click.echo(visible(text, lines=True), nl=False, file=sys.stderr)
