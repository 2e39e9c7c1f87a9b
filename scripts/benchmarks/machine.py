"""Describes the machine of a benchmark."""

import importlib.metadata
import os
from typing import Any

__all__ = ["describe_machine", "load_average"]

_PACKAGES = ("latentrt", "onnxruntime", "openvino", "torch", "diffusers", "onnx", "numpy", "tensorrt-rtx-cu13")


def describe_machine() -> dict[str, Any]:
    """Return CPU, usable cores, memory, versions, and load average."""
    from latentrt.export.benchmark import machine  # not at the top: diffusers' processes import this file too

    found = machine.describe_machine()
    return {
        "cpu": found["cpu"],
        "cores": found["cores"],
        "memory_gib": round(found["memory_bytes"] / 2**30, 1),
        "system": found["system"],
        "load_average": load_average(),
        "python": found["python"],
        **{package: importlib.metadata.version(package) for package in _PACKAGES},
    }


def load_average() -> list[float]:
    """Return the load average over 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]
