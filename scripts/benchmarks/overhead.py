"""Measures the overhead of our runtime per call, on a model so narrow that the engine takes milliseconds."""

import statistics
import time
from pathlib import Path
from typing import Any

from .engines import latentrt_bundle, raw_session
from .worker import in_own_process

__all__ = ["NARROW", "measure_overhead"]

NARROW: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [8, 8, 8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "norm_num_groups": 4,
    "scaling_factor": 1.0,
}
_CALLS = 300


def measure_overhead(bundle: Path, *, threads: int) -> dict[str, Any]:
    """Return the milliseconds of a decode of latents (1, 4, 8, 8), by `open_bundle` and a plain session in turns."""
    ours, raw = in_own_process(_milliseconds, bundle, threads)
    return {"latentrt_ms": ours, "onnxruntime_ms": raw, "overhead_ms": ours - raw}


def _milliseconds(bundle: Path, threads: int) -> tuple[float, float]:
    runs = [make(bundle, bundle, "decoder", (1, 4, 8, 8), threads) for make in (latentrt_bundle, raw_session)]
    times: list[list[float]] = [[], []]
    for _ in range(_CALLS):
        for run, spent in zip(runs, times, strict=True):
            started = time.perf_counter()
            run()
            spent.append(time.perf_counter() - started)
    ours, raw = (1e3 * statistics.median(spent[_CALLS // 10 :]) for spent in times)
    return ours, raw
