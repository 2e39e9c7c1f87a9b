"""Compares the speed of engines: each has a process of its own, and they take turns, so that noise hits all alike."""

import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .cases import SpeedCase
from .engines import ENGINES
from .worker import Worker

__all__ = ["Spread", "measure_speed"]

_REST_SECONDS = 0.3  # pause between engines, since idle threads of the previous engine spin for a while


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of repeated measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


def measure_speed(case: SpeedCase, checkpoint: Path, bundle: Path, *, threads: int, repeats: int) -> dict[str, Any]:
    """Measure the seconds per call of each engine, and the ratios of the other engines' times to ours.

    A ratio is the median of the ratios within a round: a slow phase of the machine covers a whole round.
    """
    arguments = (checkpoint, bundle, case.component, case.shape, threads)
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(make, *arguments)) for name, make in ENGINES.items()}
        results = {name: worker.result() for name, worker in workers.items()}
        seconds: dict[str, list[float]] = {name: [] for name in workers}
        cpu_seconds: dict[str, list[float]] = {name: [] for name in workers}
        for index in range(repeats):
            print(f"\r{case.model} {case.component}: round {index + 1} of {repeats}", end="", file=sys.stderr)
            order = list(workers) if index % 2 == 0 else list(workers)[::-1]
            for name in order:
                time.sleep(_REST_SECONDS)
                spent, cpu_spent = workers[name].seconds()
                seconds[name].append(spent)
                cpu_seconds[name].append(cpu_spent)
        print("\r\033[K", end="", file=sys.stderr)
    ratios, cpu_ratios = _ratios(seconds), _ratios(cpu_seconds)
    reference = results["diffusers"]
    error = float(np.abs(results["latentrt"] - reference).max() / np.abs(reference).max())
    return {
        "model": case.model,
        "component": case.component,
        "shape": case.shape,
        "rounds_seconds": seconds,
        "rounds_cpu_seconds": cpu_seconds,
        "seconds": {name: vars(Spread.of(values)) for name, values in seconds.items()},
        "times_as_fast": {name: vars(spread) for name, spread in ratios.items()},
        "times_as_fast_cpu": {name: vars(spread) for name, spread in cpu_ratios.items()},
        "relative_error": error,
        "wanted": case.wanted,
        "passed": error < 1e-4 and (case.wanted is None or ratios["diffusers"].median >= case.wanted),
    }


def _ratios(seconds: dict[str, list[float]]) -> dict[str, Spread]:
    """Return the time of each other engine over ours, round by round."""
    return {
        name: Spread.of([theirs / ours for theirs, ours in zip(values, seconds["latentrt"], strict=True)])
        for name, values in seconds.items()
        if name != "latentrt"
    }
