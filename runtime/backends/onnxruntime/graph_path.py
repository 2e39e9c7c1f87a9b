"""The path of a graph as ONNX Runtime takes it, which is text in UTF-8."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ...errors import EngineError

__all__ = ["utf8_path"]


@contextlib.contextmanager
def utf8_path(graph: Path) -> Iterator[str]:
    """A path of a graph that is text in UTF-8. It is valid within the context.

    On Linux, a folder whose name is no such text is reached through its open file descriptor.

    Raises:
        EngineError: there is no such path.
    """
    try:
        str(graph).encode()
    except UnicodeEncodeError as error:
        if sys.platform != "linux" or not graph.name.isascii():
            raise EngineError(
                f"ONNX Runtime takes names in UTF-8 only, and {graph} is none: rename the folders of the bundle"
            ) from error
    else:
        yield str(graph)
        return
    folder = os.open(graph.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{folder}/{graph.name}"
    finally:
        os.close(folder)
