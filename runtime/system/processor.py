"""The CPU of this machine, and how much of it this process may use."""

import math
import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .control_groups import control_groups

__all__ = ["Processor", "engine_threads", "processor", "usable_cores"]

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Processor:
    """A CPU.

    Attributes:
        name: the model name. Empty if the system does not report it.
        instructions: the instruction sets, by their names in Linux ("avx512f", "amx_bf16"). Empty if the system does
            not report them.
    """

    name: str
    instructions: frozenset[str]


@cache
def processor() -> Processor:
    """The CPU of this machine."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    pairs = (line.partition(":") for line in reversed(lines))  # reversed, so that the values of the first core win
    values = {key.strip(): value.strip() for key, _, value in pairs}
    name = values.get("model name", "") or platform.processor()
    return Processor(name, frozenset(values.get("flags", "").split()))


def usable_cores() -> int:
    """How many cores this process may use, at least 1: the cores of its affinity mask or cpuset, within the CPU quota
    of its control group and of the groups around it. A quota of a part of a core counts as a whole core."""
    return max(1, min([_allowed_cores(), *(math.ceil(quota) for quota in _quotas())]))


def engine_threads(threads: int | None) -> int | None:
    """How many threads an engine call gets if the user asked for `threads`. None: as many as the engine itself takes.

    Engines count the cores of the machine. So they are given a number if this process may not use all cores. The
    variable OMP_NUM_THREADS does not count: no engine reads it, and where it is set it is often 1.
    """
    if threads is not None:
        return threads
    usable = usable_cores()
    return usable if usable < (os.cpu_count() or 1) else None


def _allowed_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas() -> Iterator[float]:
    """The cores that each CPU quota of the control groups allows."""
    for folder in control_groups("cpu"):
        with suppress(OSError, ValueError, ZeroDivisionError):  # no such group, or "max"
            if (folder / "cpu.max").is_file():  # version 2
                quota, period = map(int, (folder / "cpu.max").read_text(encoding="ascii").split())
            else:
                quota, period = (
                    int((folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii")) for name in ("quota", "period")
                )
            if quota > 0:  # -1: no quota
                yield quota / period
