"""What the numbers were measured on."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

__all__ = ["describe_machine", "load_average"]

_PACKAGES = ("latentrt", "onnxruntime", "torch", "diffusers", "onnx", "numpy", "tensorrt-rtx-cu13")


def describe_machine() -> dict[str, Any]:
    """CPU, cores that may be used, memory, versions, and how busy the machine was at the start."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load_average": load_average(),
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in _PACKAGES},
    }


def load_average() -> list[float]:
    """Over 1, 5 and 15 minutes: how many processes wanted to run."""
    return [round(value, 2) for value in os.getloadavg()]


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    values = dict(reversed([tuple(map(str.strip, line.split(":", 1))) for line in lines if ":" in line]))
    name = values.get("model name", platform.processor() or "unknown")
    wide = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in values.get("flags", "").split()]
    return f"{name} ({', '.join(wide)})" if wide else name
