"""The memory that this process holds, and its peak memory."""

import contextlib
import sys
from pathlib import Path

__all__ = ["forget_peak", "peak_bytes", "resident_bytes"]

_STATUS = Path("/proc/self/status")
_CLEAR_REFS, _RESET_PEAK = Path("/proc/self/clear_refs"), "5"  # proc(5)


def peak_bytes() -> int | None:
    """The most resident bytes so far, or None if the system does not report them.

    On Linux this comes from /proc, because getrusage includes the memory that the parent process held at the fork.
    """
    if _STATUS.exists():
        return _status_bytes("VmHWM")
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def resident_bytes() -> int | None:
    """The resident bytes now, or None if the system does not report them."""
    return _status_bytes("VmRSS") if _STATUS.exists() else None


def forget_peak() -> None:
    """Reset `peak_bytes` to the resident bytes now. Only Linux can do this; on other systems nothing changes."""
    with contextlib.suppress(OSError):
        _CLEAR_REFS.write_text(_RESET_PEAK)


def _status_bytes(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])
