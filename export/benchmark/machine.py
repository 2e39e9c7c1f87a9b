"""Describes the machine of a benchmark."""

import os
import platform
from typing import Any

from ...runtime.extras import installed_version
from ...runtime.system.processor import processor

__all__ = ["describe_machine", "machine_sentence"]

_PACKAGES = ("latentrt", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx-cu13")
# Instruction sets that a description of the CPU names.
_INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def describe_machine() -> dict[str, Any]:
    """Return CPU, usable cores, memory in bytes, system, versions and load average; None for unknown values."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "packages": {name: version for name in _PACKAGES if (version := installed_version(name)) is not None},
    }


def machine_sentence(machine: dict[str, Any]) -> str:
    """Return a description by `describe_machine` as a sentence."""
    memory = machine["memory_bytes"]
    load = machine["load_average"]
    parts = [
        f"{machine['cpu']}, {machine['cores']} cores",
        "" if memory is None else f", {memory / 2**30:.0f} GiB",
        f", {machine['system']}",
        "" if load is None else f", load average {load} at the start",
        "; ",
        ", ".join(f"{name} {version}" for name, version in machine["packages"].items()),
        f", Python {machine['python']}.",
    ]
    return "".join(parts)


def _cpu_model() -> str:
    found = processor()
    name = found.name or "unknown CPU"
    sets = [flag for flag in _INSTRUCTION_SETS if flag in found.instructions]
    return f"{name} ({', '.join(sets)})" if sets else name


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, and other systems lack some names
        return None
