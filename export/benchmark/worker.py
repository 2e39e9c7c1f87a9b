"""The process that measures one case. Run as `python -m latentrt.export.benchmark.worker`.

Each case has a process of its own, because peak memory is a number of a process, and because engines keep memory and
threads.
"""

import time
from pathlib import Path
from typing import Any

from ...runtime.system.worker import serve_one_call

__all__ = ["main", "measured"]


def main() -> None:
    """Read a case, measure it, and answer with one JSON object on standard output."""
    serve_one_call(lambda order: measured(Path(order["bundle"]), order["case"]))


def measured(bundle: Path, case: dict[str, Any]) -> dict[str, Any]:
    """Measure a case in this process, and return the fields of its `Measurement` as values for JSON."""
    import numpy as np

    from ...runtime import open_bundle
    from ...runtime.calls.conditions import DECODE_TIMESTEP
    from ...runtime.calls.strategy import WHOLE
    from ...runtime.system.process_memory import peak_bytes, resident_bytes
    from .tiles import tiling_arguments

    start_bytes = resident_bytes()
    started = time.perf_counter()
    engine = {key: case[key] for key in ("backend", "provider", "dtype", "threads")}
    vae: Any  # the case was chosen for the family of the bundle
    with open_bundle(bundle, selftest="never", **engine) as vae:  # a first call is measured without the test
        tiles, strategy, memory = 1, case["strategy"], case["memory"]
        if strategy == "tiled":
            tile, overlap = (tuple(case[key] or ()) for key in ("tile", "overlap"))
            vae.enable_tiling(**tiling_arguments(vae, tile, overlap, case["blend"] or "linear"))
            tiles = vae.tile_plan(case["component"], case["size"]).count
            if tiles == 1:
                return {"error": "the sample fits into one tile, which is the same as whole"}
        elif strategy == "stream":
            vae.enable_streaming()
        elif strategy == "strips":
            vae.enable_tiling(exact=True)
        config, generator = vae.config, np.random.default_rng(0)

        def run() -> str | None:
            """Make the call, and return how it ran if the runtime chose that."""
            if strategy == "whole":  # a plain call of this size might stream or be planned
                vae.run_strategy(WHOLE, case["component"], array)
                return None
            if case["component"] == "encoder":
                ran = vae.encode(array, check_range=False, memory=memory).ran
            else:
                ran = vae.decode(array, temb=temb, rng=0, memory=memory).ran
            return ran.strategy if strategy == "default" or memory is not None else None

        temb = DECODE_TIMESTEP if config.timestep_conditioning else None
        if case["component"] == "encoder":
            shape: tuple[int, ...] = (case["batch"], config.in_channels, *case["size"])
            array = generator.random(shape, np.float32)
            array *= 2
            array -= 1
        else:
            shape = (case["batch"], config.latent_channels, *vae.grid.latent_size(case["size"]))
            array = generator.standard_normal(shape, np.float32)
        # Only this component: the engine of the other one must not count.
        if case["warm"] and strategy == "whole":
            vae.run_strategy(WHOLE, case["component"], array, specialise=True)
        elif case["warm"]:
            vae.warmup([array.shape], [case["component"]])
        else:
            run()
        first_seconds = time.perf_counter() - started
        seconds, ran = [], None
        for _ in range(case["repeats"]):
            started = time.perf_counter()
            ran = run()
            seconds.append(time.perf_counter() - started)
    return {
        "tiles": tiles,
        "seconds": seconds,
        "first_seconds": first_seconds,
        "peak_bytes": peak_bytes(),
        "start_bytes": start_bytes,
        "ran": ran,
    }


if __name__ == "__main__":
    main()
