"""The identity of a process: whether the process that wrote a file still runs."""

import hashlib
import os
import sys
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from typing import Self

__all__ = ["ProcessIdentity", "host_mark"]

_PROC = Path("/proc")
_START_FIELD = 19  # of the fields behind the name in /proc/PID/stat, see proc(5)
_UNKNOWN = "-"


@cache
def host_mark() -> str:
    """Six hex digits for this machine since its last start. All containers of a machine have the same digits."""
    try:
        text = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:  # systems other than Linux
        import platform  # imported here: start-up imports this module
        import uuid

        text = f"{platform.node()} {uuid.getnode()}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:6]


@dataclass(frozen=True)
class ProcessIdentity:
    """A process of this machine.

    Attributes:
        namespace: the namespace that its number belongs to. Every container has a namespace of its own, in which the
            first process has the number 1.
        number: the number of the process in its namespace.
        started: when it started, as the system counts. A later process with the same number started later.
    """

    namespace: str
    number: int
    started: str

    @classmethod
    def own(cls) -> Self:
        """The identity of this process."""
        return cls(_namespace(), os.getpid(), _started(os.getpid()))

    @classmethod
    def from_text(cls, text: str) -> Self | None:
        """The identity that `text` holds, or None if it holds none."""
        parts = text.split()
        if len(parts) != 3 or not parts[1].isascii() or not parts[1].isdigit() or len(parts[1]) > 10:
            return None
        return cls(parts[0], int(parts[1]), parts[2])

    def to_text(self) -> str:
        """The identity as three words."""
        return " ".join(map(str, astuple(self)))

    def has_ended(self) -> bool:
        """Whether the process has certainly ended. False if this process cannot know that."""
        if sys.platform == "win32" or self.number < 1 or self.namespace != _namespace():
            return False
        try:
            os.kill(self.number, 0)
        except (ProcessLookupError, OverflowError):  # the system has no process with such a number
            return True
        except OSError:  # it runs for another user
            return False
        now = _started(self.number)
        return _UNKNOWN not in (now, self.started) and now != self.started


def _namespace() -> str:
    try:
        return str((_PROC / "self/ns/pid").readlink()).replace(" ", "")
    except OSError:
        return _UNKNOWN


def _started(number: int) -> str:
    try:
        text = (_PROC / str(number) / "stat").read_text(encoding="utf-8", errors="replace")
        return text.rpartition(")")[2].split()[_START_FIELD]
    except (OSError, IndexError):
        return _UNKNOWN
