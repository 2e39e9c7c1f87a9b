"""The one place where text from files and libraries reaches a terminal.

A terminal acts on control characters: they can rewrite the screen, set the window's title, or fill the clipboard. File
names, metadata, manifests and messages of libraries may hold them. So every command prints through `echo`, `emit_json`,
`one_line` or the log's formatter, which show such characters as escapes, such as \\x1b for ESC.

`latentrt.tiling` imports NumPy, so the functions import `plain_text` when they run: `latentrt completion` prints
nothing of a file and stays light.
"""

import io
import json
import logging
import sys
import traceback
from types import TracebackType
from typing import Any

import click

__all__ = ["LogFormatter", "echo", "emit_json", "one_line", "print_traceback", "show_usage_error"]

_MOST_OF_A_LINE = 2000  # characters; lines of a report may be longer than messages


def one_line(text: object) -> str:
    """A message, a label or a line of the log, without control characters and with at most 600 characters."""
    from ...tiling.plain_text import as_line

    return as_line(str(text))


def echo(*lines: object) -> None:
    """Print lines on standard output.

    A newline within a line is shown as an escape: otherwise a name in a file could look like a line of ours.
    """
    from ...tiling.plain_text import as_line

    for line in lines:
        click.echo(as_line(str(line), _MOST_OF_A_LINE))


def emit_json(value: Any) -> None:
    """Print a report for programs on standard output.

    `json` escapes every control character except DEL, which this function escapes.
    """
    click.echo(json.dumps(value, indent=1, default=str, allow_nan=False).replace("\x7f", "\\u007f"))


class LogFormatter(logging.Formatter):
    """Formats each record as one line, and a traceback in lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        text = one_line(record.getMessage())
        if record.exc_info:
            text += "\n" + _visible_lines(self.formatException(record.exc_info))
        return text


def show_usage_error(error: click.ClickException) -> None:
    """Print the error of wrong usage. click quotes the arguments, and these may be names of files."""
    text = io.StringIO()
    error.show(file=text)
    click.echo(_visible_lines(text.getvalue()), nl=False, err=True)


def print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of a bug, which may quote files and libraries. This is the command's `sys.excepthook`."""
    text = "".join(traceback.format_exception(kind, error, trace))
    click.echo(_visible_lines(text), nl=False, file=sys.stderr)


def _visible_lines(text: str) -> str:
    from ...tiling.plain_text import visible

    return visible(text, lines=True)
