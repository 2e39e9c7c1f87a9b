"""A latents file on standard output. It is written to a temporary file first, because it is whole or absent."""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import OutputError
from .destination import STANDARD_OUTPUT

__all__ = ["latents_destination"]

_CHUNK_BYTES = 1 << 20


@contextlib.contextmanager
def latents_destination(output: Path) -> Iterator[Path]:
    """The latents file that a command writes. For `STANDARD_OUTPUT`, it is copied there when the body has ended.

    Raises:
        OutputError: there is no place for a temporary file.
    """
    if output != STANDARD_OUTPUT:
        yield output
        return
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="latentrt-"))
        except OSError as error:
            raise OutputError(f"-o - needs a folder for temporary files ({error.strerror}): set TMPDIR") from error
        file = Path(folder) / "latents.safetensors"
        yield file
        with file.open("rb") as copy:
            while chunk := copy.read(_CHUNK_BYTES):
                sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
