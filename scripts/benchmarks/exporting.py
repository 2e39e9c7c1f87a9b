"""Measures the time and memory of an export in a process of its own, with its imports."""

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from .cases import EXPORT_LIMITS
from .worker import in_own_process

__all__ = ["measure_export", "peak_gib"]


def measure_export(model: str, checkpoint: Path, bundle: Path) -> dict[str, Any]:
    """Export encoder and decoder to `bundle`. Seconds are those from the start to the end of the process."""
    shutil.rmtree(bundle, ignore_errors=True)
    print(f"{model}: export", file=sys.stderr)
    started = time.perf_counter()
    peak = in_own_process(_export, checkpoint, bundle)
    seconds = time.perf_counter() - started
    limits = EXPORT_LIMITS[model]
    return {
        "model": model,
        "seconds": seconds,
        "wanted_seconds": limits.seconds,
        "peak_gib": peak,
        "wanted_gib": limits.gib,
        "bundle_gib": sum(path.stat().st_size for path in bundle.iterdir()) / 2**30,
        "passed": seconds < limits.seconds and (limits.gib is None or peak < limits.gib),
    }


def _export(checkpoint: Path, bundle: Path) -> float:
    from latentrt.export.bundle import export_bundle

    export_bundle(checkpoint, bundle)
    return peak_gib()


def peak_gib() -> float:
    """Return the peak memory of this process, in GiB."""
    # On Linux, ru_maxrss starts from the parent's memory at the time of the fork. VmHWM is that of this program alone.
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 2**20
    import resource  # not on Windows

    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes / 2**30
