"""The measuring process of calibration: one probe in, its numbers out.

Run as `python -m latentrt.runtime.autoencoders.calibration_worker`.
"""

import time
from typing import Any

import numpy as np

from .. import open_bundle
from ..calls.strategy import Strategy
from ..system.process_memory import forget_peak, peak_bytes, resident_bytes
from ..system.processor import usable_cores
from ..system.worker import serve_one_call

__all__ = ["main"]

_SLOW_SECONDS = (
    2.0  # a first call that takes longer is not repeated, although it does work that a second call would not
)


def main() -> None:
    """Read the probe, measure, answer with one JSON object on standard output."""
    serve_one_call(_measured)


def _measured(order: dict[str, Any]) -> dict[str, Any]:
    import concurrent.futures.thread  # noqa: F401 # tiles import it: imported now, it does not count as memory of the call

    start = resident_bytes() or peak_bytes()
    if start is None:
        return {"error": "this system does not tell how much memory a process holds"}
    probe, strategy = order["probe"], Strategy.from_json(order["probe"]["strategy"])
    with open_bundle(order["bundle"], selftest="never", **order["engine"]) as vae:
        decodes, cells = probe["component"] == "decoder", tuple(probe["cells"])
        if strategy.kind != "strips":  # whose engines are opened one by one
            vae.load(probe["component"], streaming=strategy.streaming)
        opening, loaded = peak_bytes() or start, resident_bytes() or peak_bytes() or start
        forget_peak()
        shape = (probe["batch"], vae.config.latent_channels if decodes else vae.config.in_channels)
        array = _random((*shape, *(cells if decodes else vae.grid.sample_size(cells))))
        seconds, work = [], [0.0]
        cores = order["engine"]["threads"] or usable_cores()
        for _ in range(2):
            started, work_started = time.perf_counter(), time.process_time()
            vae.run_strategy(strategy, probe["component"], array)
            seconds.append(time.perf_counter() - started)
            work.append((time.process_time() - work_started) / cores)
            if seconds[0] > _SLOW_SECONDS:
                break
        peak = peak_bytes() or start
    return {
        "peak_bytes": peak - start,
        "loaded_bytes": loaded - start,
        "opening_bytes": opening - start,
        "seconds": seconds[-1],
        "work_seconds": work[-1],
    }


def _random(shape: tuple[int, ...]) -> Any:
    array = np.random.default_rng(0).random(shape, np.float32)
    array *= 2
    array -= 1
    return array


if __name__ == "__main__":
    main()
