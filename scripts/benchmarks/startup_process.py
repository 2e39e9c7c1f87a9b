"""Measures the time from the start of a process to its first decoded frames.

Run it as `python startup_process.py BUNDLE BACKEND DTYPE SHAPE THREADS` in any environment with a LatentRT. It prints
one JSON object.
"""

import time

STARTED = time.perf_counter()

import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402


def main() -> None:
    bundle, backend, dtype, shape, threads = sys.argv[1:]
    options: Any = {"backend": backend, "dtype": dtype, "threads": int(threads)}
    import numpy as np

    from latentrt.runtime import open_bundle

    marks = {"import": time.perf_counter()}
    vae = open_bundle(bundle, **options)
    marks["open_bundle"] = time.perf_counter()
    vae.load("decoder")
    marks["load"] = time.perf_counter()
    latents = np.random.default_rng(0).standard_normal(tuple(map(int, shape.split("x"))), np.float32)
    vae.decode(latents)
    marks["first"] = time.perf_counter()
    vae.decode(latents)
    marks["second"] = time.perf_counter()
    times = [STARTED, *marks.values()]
    seconds = {name: end - start for name, start, end in zip(marks, times, times[1:], strict=False)}
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps({"seconds": seconds, "peak_gib": int(status["VmHWM"].split()[0]) / 2**20}))


if __name__ == "__main__":
    main()
