"""Inputs that can be read once only: standard input and named pipes, copied to a file for the time of a command."""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError, LatentRTError, MediaError

__all__ = ["STANDARD_INPUT", "readable_file"]

STANDARD_INPUT = Path("-")
"""The input that means standard input."""

_CHUNK_BYTES = 1 << 20
_NPY_START = b"\x93NUMPY"


@contextlib.contextmanager
def readable_file(path: Path, ending: str, spare_folder: Path | None = None) -> Iterator[Path]:
    """An input as a file that can be read several times.

    An ordinary file or folder is given as it is. Standard input and a pipe are copied to a temporary file, which is
    removed at the end. Its name is always the same, so the noise of a `--seed` is too.

    Args:
        path: the input.
        ending: the ending of the temporary file if it holds no `.npy` array.
        spare_folder: the folder of the temporary file on a system without a folder for temporary files.

    Raises:
        InputError: standard input is a terminal or closed.
        MediaError: nothing comes from the pipe, or there is no place for the temporary file. Errors of the body name
            the input instead of the temporary file.
    """
    if path != STANDARD_INPUT and (path.is_file() or path.is_dir() or not path.exists()):
        yield path
        return
    name = "standard input" if path == STANDARD_INPUT else str(path)
    with contextlib.ExitStack() as stack:
        try:
            folder = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="latentrt-", dir=_place(spare_folder)))
            )
            stream = _standard_input() if path == STANDARD_INPUT else stack.enter_context(path.open("rb"))
            file = _copied(stream, folder, ending, name)
        except OSError as error:
            raise MediaError(f"{name} cannot be copied to a temporary file ({error.strerror}): give a file") from error
        try:
            yield file
        except LatentRTError as error:
            if str(file) not in str(error):
                raise
            raise type(error)(str(error).replace(str(file), name)) from error


def _standard_input() -> BinaryIO:
    if sys.stdin is None or sys.stdin.closed:
        raise InputError("standard input is closed: pipe a file into the command, or name a file")
    if sys.stdin.isatty():
        raise InputError("standard input is a terminal: pipe a file into the command, or name a file")
    return sys.stdin.buffer


def _copied(stream: BinaryIO, folder: Path, ending: str, name: str) -> Path:
    chunk = stream.read(_CHUNK_BYTES)
    if not chunk:
        raise MediaError(f"{name} is empty: the command before the pipe wrote nothing")
    file = folder / f"standard-input{'.npy' if chunk.startswith(_NPY_START) else ending}"
    with file.open("wb") as copy:
        while chunk:
            copy.write(chunk)
            chunk = stream.read(_CHUNK_BYTES)
    return file


def _place(spare_folder: Path | None) -> str | None:
    """The folder for the temporary file. None is the system's."""
    try:
        tempfile.gettempdir()
    except OSError:
        return None if spare_folder is None else str(spare_folder)
    return None
