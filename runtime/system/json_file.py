"""JSON from untrusted files: its size, depth and numbers are limited before it is used.

Editors and shells of Windows write a byte order mark before the text, or UTF-16. Both are read.
"""

import codecs
import errno
import json
import math
import os
import stat
from pathlib import Path
from typing import Any

from ...tiling.plain_text import shown
from .stand_in import StandIn, stand_in

__all__ = ["MOST_DEPTH", "json_value", "read_json"]

MOST_DEPTH = 64  # levels of nested objects and lists; manifests and configs have fewer than ten
_MOST_DIGITS = 40  # in a whole number; sizes in bytes have at most 20


def read_json(path: Path, most_bytes: int) -> Any:
    """Parse a JSON file of at most `most_bytes` bytes.

    Raises:
        FileNotFoundError: the file does not exist.
        OSError: the file cannot be read.
        StandIn: a Git LFS pointer, a web page or nothing lies in the place of the file.
        ValueError: the path is no regular file, the file is too large, or `json_value` refuses its content. The
            message can end a sentence.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device might never end
            raise ValueError("it is no ordinary file")
        content = file.read(most_bytes + 1) if status.st_size <= most_bytes else b""
        if status.st_size > most_bytes or len(content) > most_bytes:
            raise ValueError(f"it has more than {most_bytes / (1 << 20):g} MiB, the most that may be read")
    reason = stand_in(content)
    if reason is not None:
        raise StandIn(reason)
    return json_value(_text(content))


def _text(content: bytes) -> bytes | str:
    """The text of a file without its byte order mark. Text in UTF-8 stays as it is."""
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if content.startswith(mark):
            try:
                return content[len(mark) :].decode(encoding)
            except UnicodeDecodeError:
                raise ValueError("it is neither UTF-8 nor UTF-16 text") from None
    return content.removeprefix(codecs.BOM_UTF8)


def json_value(content: bytes | str) -> Any:
    """Parse JSON text. The caller limits its size, and takes a byte order mark away.

    Raises:
        ValueError: the text is not UTF-8 or not JSON, it is nested too deep, or a number is not finite or has too
            many digits. The message can end a sentence.
    """
    try:
        text = content.decode() if isinstance(content, bytes) else content
        value = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_constant)
    except RecursionError:
        raise ValueError(f"it is nested more than {MOST_DEPTH} deep") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        line = error.doc[: error.pos].count("\n")
        comment = error.doc.split("\n")[line].lstrip().startswith(("//", "/*", "#"))
        hint = "; JSON has no comments, so take the comment out" if comment else ""
        raise ValueError(f"it is not JSON: {error.msg} in line {error.lineno}{hint}") from None
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return value
    raise ValueError(f"it is nested more than {MOST_DEPTH} deep")


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"it holds a number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it holds the number {shown(text)}, which is too large")
    return value


def _constant(text: str) -> float:
    raise ValueError(f"it holds {text}, which is not a JSON number")
