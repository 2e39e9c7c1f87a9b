"""The control groups of this process on Linux: the limits of its container."""

from collections.abc import Iterator
from pathlib import Path

__all__ = ["control_groups"]

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def control_groups(controller: str) -> Iterator[Path]:
    """The folders of this process's control group and of the groups around it, from the inside out.

    Groups of version 1 are those of the `controller`, such as "memory". Groups of version 2 have every controller. A
    folder may be missing, as in a container that does not see its own group. On other systems there are none.
    """
    try:
        lines = (_PROC / "self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, kinds, name = line.split(":", 2)
        own = Path(name.lstrip("/"))
        for part in (own, *own.parents):
            if not kinds:
                yield _CGROUPS / part
            elif controller in kinds.split(","):
                mount = _CGROUPS / controller
                yield (mount if mount.is_dir() else _CGROUPS / kinds) / part
