"""The version of the NVIDIA driver. Reading it needs no package."""

import ctypes
import sys
from pathlib import Path

__all__ = ["driver_version"]

_LINUX = Path("/proc/driver/nvidia/version")


def driver_version() -> str:
    """The driver's own description on Linux, or the version of CUDA that it supports. Empty if there is no driver."""
    try:
        return _LINUX.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
    except OSError:
        pass
    version = ctypes.c_int()
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        if library.cuDriverGetVersion(ctypes.byref(version)) != 0:
            return ""
    except (OSError, AttributeError):
        return ""
    return f"CUDA {version.value // 1000}.{version.value % 1000 // 10}"
