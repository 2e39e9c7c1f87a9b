"""The standard streams of a command: closed ones, and a standard output that cannot be written."""

import contextlib
import errno
import os
import sys

__all__ = ["discard_output", "flush_output", "is_of_output", "open_closed_streams"]


def open_closed_streams() -> None:
    """Open the standard streams that are closed.

    Otherwise the next file that is opened gets the number of a closed stream, and messages of libraries would go into
    it: `latentrt decode ... 2>&-` could write warnings into a clip. A closed standard output becomes one that cannot be
    written, and a closed standard error one that is discarded.
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
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def flush_output() -> None:
    """Write what is buffered for standard output.

    Raises:
        OSError: it cannot be written, for example because its disk is full, or the reader of a pipe has ended.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def discard_output() -> None:
    """Discard everything that is still buffered for standard output, so that the interpreter does not try again."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, 1)
        os.close(descriptor)
        sys.stdout.flush()


def is_of_output(error: OSError) -> bool:
    """Whether an error without a file name is that of standard output."""
    if error.filename is not None or error.errno == errno.EPIPE:
        return False
    try:
        flush_output()
    except OSError:
        return True
    return False
