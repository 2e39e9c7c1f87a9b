"""The CPU that this runs on."""

import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Processor", "processor"]

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Processor:
    """`instructions`: sets of instructions by the names that Linux has for them ("avx512f", "amx_bf16"); none where the
    system does not tell."""

    name: str
    instructions: frozenset[str]


@cache
def processor() -> Processor:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    pairs = (line.partition(":") for line in reversed(lines))  # reversed, so that the first core's remain
    values = {key.strip(): value.strip() for key, _, value in pairs}
    name = values.get("model name", "") or platform.processor()
    return Processor(name, frozenset(values.get("flags", "").split()))
