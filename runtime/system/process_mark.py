"""A mark of a process, for files that say which process works on something: whether that process still runs."""

import contextlib
import functools
import json
import os
import socket
import sys
from pathlib import Path

__all__ = ["has_ended", "process_mark"]

_MOST_BYTES = 1000  # of a mark in a file, so that a damaged file is not parsed


def process_mark() -> str:
    """The mark of this process: one line of text that names the machine, the process and the time of its start."""
    process = os.getpid()
    return json.dumps({"machine": _machine(), "process": process, "started": _started(process)})


def has_ended(mark: str) -> bool:
    """Whether the process with this mark has certainly ended.

    False also means "unknown": the process is on another machine or in another container, the system does not say
    which processes run, or the text is no mark.
    """
    try:
        fields = json.loads(mark) if len(mark) <= _MOST_BYTES else None
        machine, process, started = fields["machine"], fields["process"], fields["started"]  # type: ignore[index]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    if machine != _machine() or type(process) is not int or not 0 < process < 1 << 31 or sys.platform == "win32":
        return False
    try:
        os.kill(process, 0)  # signal 0 only asks whether the process exists
    except ProcessLookupError:
        return True
    except OSError:  # it belongs to another user
        pass
    now = _started(process)
    return now is not None and started is not None and now != started  # the system gave the number to another process


@functools.cache
def _machine() -> str:
    """The machine, its start, and the container: process numbers mean the same where this text is the same."""
    parts = [socket.gethostname()]
    for file in ("/proc/sys/kernel/random/boot_id", "/etc/machine-id"):
        with contextlib.suppress(OSError):
            parts.append(Path(file).read_text(errors="replace").strip()[:64])
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))  # noqa: PTH115 # the target is no path
    return " ".join(parts)[:400]


def _started(process: int) -> str | None:
    """When a process started, as text that differs between processes of the same number. None if unknown."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before the parenthesis may hold spaces
    return fields[19] if len(fields) > 19 else None
