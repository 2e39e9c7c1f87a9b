"""How much memory new work can have."""

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["available_bytes"]

_UNKNOWN_BYTES = 8 << 30  # where the system does not tell how much memory there is
_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def available_bytes() -> int:
    """Without swapping, and within the limits of the container that this runs in; the whole machine's where only that
    is known."""
    return max(0, min([_machine(), *_containers()]))


def _machine() -> int:
    try:
        for line in (_PROC / "meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # no sysconf on Windows
        return _UNKNOWN_BYTES


def _containers() -> Iterator[int]:
    """What is left of every limit that holds here: of this process's control group and those that it is in. Files that
    are only cached count as free, as the machine's do."""
    for folder, limit, used in _groups():
        try:
            most = int((folder / limit).read_text(encoding="ascii"))
            taken = int((folder / used).read_text(encoding="ascii"))
            lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        except (OSError, ValueError):  # no such group, or "max": no limit
            continue
        cached = next((int(line.split()[1]) for line in lines if line.split()[0].endswith("inactive_file")), 0)
        yield most - (taken - cached)


def _groups() -> Iterator[tuple[Path, str, str]]:
    """Folders of control groups (Linux; version 2, and 1), each with the names of its files for limit and use."""
    try:
        lines = (_PROC / "self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, name = line.split(":", 2)
        own = Path(name.lstrip("/"))
        for part in (own, *own.parents):
            if not kinds:
                yield _CGROUPS / part, "memory.max", "memory.current"
            elif "memory" in kinds.split(","):
                yield _CGROUPS / "memory" / part, "memory.limit_in_bytes", "memory.usage_in_bytes"
