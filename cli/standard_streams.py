"""The standard streams of a command: closed ones, and a standard output that cannot be written."""

import contextlib
import io
import os
import sys
from typing import Any

__all__ = ["STANDARD_OUTPUT", "discard_output", "flush_output", "prepare_streams"]

STANDARD_OUTPUT = "standard output"
"""The file name in an OSError of standard output. Without a name, such an error looks like that of any other file."""


def prepare_streams() -> None:
    """Open the standard streams that are closed, and give errors of standard output their name.

    If a stream is closed, the next file that is opened gets its number, and messages of libraries would go into that
    file: `latentrt decode ... 2>&-` could write warnings into a clip. A closed standard output becomes one that cannot
    be written, and a closed standard error one that is discarded.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, mode)  # it gets the lowest free number
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    if os.name == "posix" or sys.stdout is None:  # Windows has a console that is no file
        encoding, errors = (sys.stdout.encoding, sys.stdout.errors) if sys.stdout is not None else ("utf-8", None)
        raw = _NamedOutput(1, "w", closefd=False)
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding=encoding, errors=errors, line_buffering=raw.isatty()
        )


def flush_output() -> None:
    """Write what is buffered for standard output.

    Raises:
        OSError: it cannot be written, for example because its disk is full, or the reader of a pipe has ended.
    """
    sys.stdout.flush()


def discard_output() -> None:
    """Discard everything that is still buffered for standard output, so that the interpreter does not try again."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, 1)
        os.close(descriptor)
        sys.stdout.flush()


class _NamedOutput(io.FileIO):
    """Standard output whose errors have a file name."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = STANDARD_OUTPUT
            raise
