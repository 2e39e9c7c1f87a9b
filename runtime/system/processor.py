"""The CPU of this machine."""

import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Processor", "processor"]

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
