"""What often lies in the place of a file: a Git LFS pointer, a web page, the answer of a server, or nothing.

Such a file has the right name and the wrong content. The error names the content, because fetching the file again in
the same way brings the same content.
"""

import re
from pathlib import Path

__all__ = ["StandIn", "stand_in", "stand_in_at"]

_START_BYTES = 1024  # of a file that is looked at; a Git LFS pointer has about 130 bytes
_LFS = b"version https://git-lfs.github.com/spec/"
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|head|body)[\s>]", re.IGNORECASE)
_ANSWER = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*<\?xml[^>]*>\s*<Error>|(?:Entry|Repository) not found|Invalid username or pass"
)


class StandIn(ValueError):
    """Something else lies in the place of a file. The message can end a sentence, and says what to do."""


def stand_in(start: bytes) -> str | None:
    """Say what lies in the place of a file, and what to do; None if the file may be what its name says.

    Args:
        start: the first bytes of the file, a few hundred or all of them.

    Returns:
        The end of a sentence whose subject is the file.
    """
    if not start:
        return "it is empty: fetch it again"
    if start.startswith(_LFS):
        return "it is a Git LFS pointer, not the file itself: run `git lfs pull` in its repository"
    if _PAGE.match(start):
        return "it is a web page that was saved in place of the file: fetch the file itself"
    if _ANSWER.match(start):
        return "it is an error message of a server that was saved in place of the file: fetch the file itself"
    return None


def stand_in_at(path: Path) -> str | None:
    """Say what lies in the place of the file at `path`, as `stand_in` does; None if the file cannot be read."""
    try:
        if not path.is_file():  # opening a pipe waits until something is written to it
            return None
        with path.open("rb") as file:
            return stand_in(file.read(_START_BYTES))
    except OSError:
        return None
