"""The memory that is available for new work."""

import os
from collections.abc import Iterator
from pathlib import Path

from .control_groups import control_groups

__all__ = ["available_bytes"]

_UNKNOWN_BYTES = 8 << 30  # assumed if the system does not report its memory
_PROC = Path("/proc")
_VERSION_1 = "memory.limit_in_bytes", "memory.usage_in_bytes"
_VERSION_2 = "memory.max", "memory.current"


def available_bytes() -> int:
    """The bytes that this process can take without swapping, within the limits of its container.

    On systems other than Linux this is all of the machine's memory, used or not.
    """
    return max(0, min([_machine_bytes(), *_container_bytes()]))


def _machine_bytes() -> int:
    try:
        for line in (_PROC / "meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return _UNKNOWN_BYTES


def _container_bytes() -> Iterator[int]:
    """The bytes left under each memory limit of this process's control group and of the groups around it.

    Memory that only caches files counts as free, as it does for the machine.
    """
    for folder in control_groups("memory"):
        names = _VERSION_2 if (folder / _VERSION_2[0]).is_file() else _VERSION_1
        try:
            limit, usage = (int((folder / name).read_text(encoding="ascii")) for name in names)
            lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        except (OSError, ValueError):  # the group does not exist, or its limit is "max"
            continue
        cached = next((int(line.split()[1]) for line in lines if line.split()[0].endswith("inactive_file")), 0)
        yield limit - (usage - cached)
