"""What the numbers were measured on."""

import importlib.metadata
import os
from typing import Any

__all__ = ["describe_machine", "load_average"]

_PACKAGES = ("latentrt", "onnxruntime", "openvino", "torch", "diffusers", "onnx", "numpy", "tensorrt-rtx-cu13")


def describe_machine() -> dict[str, Any]:
    """CPU, cores that may be used, memory, versions, and how busy the machine was at the start."""
    from latentrt.export.benchmark import machine  # here: processes that measure import this file, and diffusers' too

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
    """Over 1, 5 and 15 minutes: how many processes wanted to run."""
    return [round(value, 2) for value in os.getloadavg()]
