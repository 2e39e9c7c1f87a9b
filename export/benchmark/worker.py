"""The process that measures one case. Run as `python -m latentrt.export.benchmark.worker`.

Each case has a process of its own, because peak memory is a number of a process, and because engines keep memory and
threads.
"""

import time
from contextlib import nullcontext
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
    with open_bundle(bundle, **engine) as vae:
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

        def run() -> None:
            if strategy == "whole":  # a plain call of this size might stream or be planned
                vae.run_strategy(WHOLE, case["component"], array)
            elif case["component"] == "encoder":
                vae.encode(array, memory=memory)
            else:
                vae.decode(array, temb=temb, rng=0, memory=memory)

        temb = DECODE_TIMESTEP if config.timestep_conditioning else None
        if case["component"] == "encoder":
            shape: tuple[int, ...] = (case["batch"], config.in_channels, *case["size"])
            array = generator.random(shape, np.float32)
            array *= 2
            array -= 1
        else:
            shape = (case["batch"], config.latent_channels, *vae.grid.latent_size(case["size"]))
            array = generator.standard_normal(shape, np.float32)
        # Specialise one component as `warmup` does it. `warmup` itself would load the other component's engine too.
        with vae._sessions.fitting() if case["warm"] else nullcontext():  # noqa: SLF001
            run()
        first_seconds = time.perf_counter() - started
        ran = None
        if strategy == "default" or memory is not None:
            ran = vae._strategy(case["component"], array, memory, "float32", None).label(vae.grid)  # noqa: SLF001
        seconds = []
        for _ in range(case["repeats"]):
            started = time.perf_counter()
            run()
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
