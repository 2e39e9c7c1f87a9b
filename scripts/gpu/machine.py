"""The machine: GPU, installed packages, usable backends, and the speed of products and copies on the GPU."""

import importlib.metadata
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .clock import synchronise
from .processes import Measures

__all__ = ["machine_measures"]

_PACKAGES = (
    *("torch", "triton", "tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12"),
    *("onnxruntime", "onnxruntime-gpu", "onnx", "polygraphy", "cuda-core", "cuda-bindings", "cuda-pathfinder"),
    *("numpy", "safetensors", "av"),
)
_DTYPES = ("float32", "float16", "bfloat16")
_DRIVER = Path("/proc/driver/nvidia/version")
_COPIED_BYTES = 256 << 20


def machine_measures(dry: bool) -> Measures:
    """Return the measurements of the machine and of its backends: [label, reason why it cannot run, or null] each."""
    from latentrt.runtime.backends.choose import backends_here

    return {
        ("machine", "torch"): lambda: _dry_machine() if dry else _machine(),
        ("backends", "latentrt"): lambda: {"backends": backends_here()},
    }


def _dry_machine() -> dict[str, Any]:
    return {
        "device": "cpu (dry run)",
        **_software(),
        "matrix_tflops": {"float32": _tflops("cpu", "float32", 512)},
    }


def _machine() -> dict[str, Any]:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "multiprocessors": properties.multi_processor_count,
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        **_software(),
        "matrix_tflops": {dtype: _tflops("cuda", dtype, 8192) for dtype in _DTYPES},
        "copy_gb_per_second": _copies(),
    }


def _software() -> dict[str, Any]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"python": platform.python_version(), "system": platform.platform(), "packages": versions}


def _driver() -> str | None:
    """Return the version of the driver, from nvidia-smi or the kernel."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.strip().splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return _DRIVER.read_text(encoding="utf-8").splitlines()[0] if _DRIVER.exists() else None


def _tflops(device: str, dtype: str, size: int) -> float:
    """Return the rate of products of `size` x `size` matrices in TFLOP/s, the best of several."""
    import torch

    matrix = torch.randn(size, size, device=device, dtype=getattr(torch, dtype))
    return 2 * size**3 / _best_seconds(lambda: matrix @ matrix, device) / 1e12


def _copies() -> dict[str, float]:
    """Return the GB/s of copies to the host, into page-locked memory and into new memory, as results are copied."""
    import torch

    there = torch.zeros(_COPIED_BYTES, dtype=torch.uint8, device="cuda")
    pinned = torch.empty(_COPIED_BYTES, dtype=torch.uint8, pin_memory=True)
    ways: dict[str, Callable[[], Any]] = {"page-locked": lambda: pinned.copy_(there), "new": lambda: there.cpu()}
    return {name: _COPIED_BYTES / _best_seconds(run, "cuda") / 1e9 for name, run in ways.items()}


def _best_seconds(run: Callable[[], Any], device: str) -> float:
    seconds = []
    for _ in range(8):
        synchronise(device)
        started = time.perf_counter()
        run()
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds)
