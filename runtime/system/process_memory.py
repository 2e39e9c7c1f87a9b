"""How much memory this process holds, and the most it has held."""

import contextlib
import sys
from pathlib import Path

__all__ = ["forget_peak", "peak_bytes", "resident_bytes"]

_STATUS = Path("/proc/self/status")
_CLEAR_REFS, _RESET_PEAK = Path("/proc/self/clear_refs"), "5"  # proc(5)


def peak_bytes() -> int | None:
    """Resident bytes at their peak, or None where the system does not tell. (Linux's getrusage counts what the parent
    held when it forked, /proc does not.)"""
    if _STATUS.exists():
        return _of_status("VmHWM")
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def resident_bytes() -> int | None:
    """Resident bytes now, or None where the system does not tell."""
    return _of_status("VmRSS") if _STATUS.exists() else None


def forget_peak() -> None:
    """From now on `peak_bytes` counts anew, where the system can do that (Linux); otherwise nothing changes."""
    with contextlib.suppress(OSError):
        _CLEAR_REFS.write_text(_RESET_PEAK)


def _of_status(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])
