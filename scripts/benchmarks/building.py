"""Measures the time and memory of engine builds at full size, without a GPU."""

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from latentrt.runtime.arrays.kinds import Dtype

from .cases import BUILD_LIMITS
from .worker import in_own_process

__all__ = ["measure_build"]

# Compute capabilities of an engine for many GPUs.
_PORTABLE = ("8.0", "8.6", "8.9", "12.0")


def measure_build(model: str, checkpoint: Path, bundle: Path) -> list[dict[str, Any]]:
    """Export the decoder in float32 and float16 to `bundle`, and build engines with tensorrt-rtx.

    Engines are built for all compute capabilities and, in float32, also for one. Seconds are those of the whole build,
    with hashing and writing. Memory is that of the process that builds.
    """
    shutil.rmtree(bundle, ignore_errors=True)
    print(f"{model}: export of the decoder in two precisions", file=sys.stderr)
    in_own_process(_export, checkpoint, bundle)
    limits = BUILD_LIMITS[model]
    rows = []
    for dtype, capabilities in (("float32", ("8.9",)), ("float32", _PORTABLE), ("float16", _PORTABLE)):
        print(f"{model}: {dtype} engine for {', '.join(capabilities)}", file=sys.stderr)
        started = time.perf_counter()
        record = in_own_process(_build, bundle, dtype, capabilities, limits.shapes)
        seconds = time.perf_counter() - started
        peak_gib = record.built["peak_bytes"] / 2**30
        rows.append(
            {
                "model": model,
                "component": "decoder",
                "dtype": dtype,
                "library": f"tensorrt-rtx {record.library_version}",
                "compute_capabilities": list(capabilities),
                "profile": str(record.profiles[0]),
                "seconds": seconds,
                "parse_seconds": record.built["parse_seconds"],
                "build_seconds": record.built["build_seconds"],
                "wanted_seconds": limits.seconds,
                "peak_gib": peak_gib,
                "wanted_gib": limits.gib,
                "engine_gib": record.bytes / 2**30,
                "activation_gib": (record.activation_bytes or 0) / 2**30,
                "passed": seconds < limits.seconds and peak_gib < limits.gib,
            }
        )
        (bundle / record.file).unlink()
    return rows


def _export(checkpoint: Path, bundle: Path) -> None:
    from latentrt.export.bundle import ExportSettings, export_bundle

    export_bundle(checkpoint, bundle, ExportSettings(components=("decoder",), dtypes=("float32", "float16")))


def _build(bundle: Path, dtype: Dtype, capabilities: tuple[str, ...], shapes: tuple[tuple[int, ...], ...]) -> Any:
    from latentrt.export.engines.build import build_engines
    from latentrt.export.engines.settings import BuildSettings, Extent

    low, best, high = (Extent(*shape) for shape in shapes)
    settings = BuildSettings(
        "tensorrt-rtx", (dtype,), ("decoder",), shapes=((low, best, high),), compute_capabilities=capabilities
    )
    return build_engines(bundle, settings)[0].record
