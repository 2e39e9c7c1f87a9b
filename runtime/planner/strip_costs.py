"""What exact strips take: what waits between their steps is known from their plan, what an engine call holds for its
result from small passes that were measured."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate

from ..bundle.manifest import Graph, Manifest
from ..bundle.profiles import Profile
from ..calls.strategy import Strategy
from ..calls.strip_settings import StripSettings
from ..calls.workload import Workload
from ..execution.strip_plan import Step
from ..execution.strips import PART_FOR_TILES, plan_strips
from .calibration import Points
from .probe import Probe
from .rehearsal import held_bytes

__all__ = ["strip_cost", "strip_steps"]

_ITEM_BYTES = 4
_SIDES = (12, 24)  # latent cells of the pictures on which strips are measured
_LEAN = 1.06  # beyond the others': steps differ in how much a call takes for its result
_DISK_BYTES_PER_SECOND = 5e8


def strip_cost(manifest: Manifest, points: Points, work: Workload, strategy: Strategy, dtype: str) -> tuple[int, float]:
    """Bytes, input and result not counted, and seconds.

    Raises:
        EngineError: a small pass had to be measured, and does not run.
    """
    (small, small_peak, _), (large, large_peak, seconds) = (
        _measured(manifest, points, work, side, dtype) for side in _SIDES
    )
    factor = _solved(lambda factor: large.most(factor) - small.most(factor), large_peak - small_peak)
    base = large_peak - large.most(factor)
    steps = _Steps.of(manifest, work, strategy, dtype)
    per_pixel = seconds / (_SIDES[1] * work.grid.spatial) ** 2
    seconds = per_pixel * work.batch * math.prod(work.size) + steps.in_files / _DISK_BYTES_PER_SECOND
    return int(_LEAN * (base + steps.most(factor))), seconds


def strip_steps(
    manifest: Manifest,
    work: Workload,
    strategy: Strategy,
    dtype: str,
    profiles: Callable[[Graph], tuple[Profile, ...]] | None = None,
) -> tuple[Step, ...]:
    """The steps of the strips of a call in graphs of that precision; `profiles` as in `plan_strips`."""
    assert isinstance(strategy.tiling, StripSettings)
    graphs = manifest.find_strip_graphs(work.component, dtype)
    return plan_strips(graphs, strategy.tiling, work, work.batch, profiles)


def _measured(manifest: Manifest, points: Points, work: Workload, side: int, dtype: str) -> tuple["_Steps", int, float]:
    """A small exact pass in three strips: what its steps hold, its peak beside input and result, its seconds."""
    settings = Strategy(StripSettings(side * work.grid.spatial // 3, None, 1 << 40))
    small = replace(work, batch=1, cells=(side, side), output="float32")
    point = points.point(Probe(work.component, small.cells, settings))
    around = small.input_bytes + small.result_bytes()
    return _Steps.of(manifest, small, settings, dtype), point.peak_bytes - around, point.seconds


@dataclass(frozen=True)
class _Steps:
    """An exact pass's steps in bytes: `held` between them, `tile`: of one tile's result, `scores` and `keys` (with
    values) of attention. `in_files`: what is written to files."""

    held: tuple[int, ...]
    tile: tuple[int, ...]
    scores: tuple[int, ...]
    keys: tuple[int, ...]
    in_files: int

    @classmethod
    def of(cls, manifest: Manifest, work: Workload, strategy: Strategy, dtype: str) -> "_Steps":
        assert isinstance(strategy.tiling, StripSettings)
        steps = strip_steps(manifest, work, strategy, dtype)
        held, in_files = held_bytes(steps, work.batch, int((1 - PART_FOR_TILES) * strategy.tiling.budget_bytes))
        tiles, scores, keys = [], [], []
        for step in steps:
            rows, columns = step.tiles[0]
            pixels = (rows.stop - rows.start) * (columns.stop - columns.start)
            area = math.prod(step.size) * work.batch
            tiles.append(_ITEM_BYTES * work.batch * step.channels * pixels)
            scores.append(_ITEM_BYTES * 2 * pixels * area if step.segment.kind == "attention" else 0)
            keys.append(_ITEM_BYTES * 2 * step.channels * area if step.segment.kind != "convolution" else 0)
        return cls(tuple(held), tuple(tiles), tuple(scores), tuple(keys), in_files)

    def most(self, factor: float) -> float:
        """The most that is held in a step, where an engine call takes `factor` times a tile's result. What one step's
        engine took is the next one's: it does not go back in between."""
        calls = (factor * tile + scores for tile, scores in zip(self.tile, self.scores, strict=True))
        rows = zip(self.held, accumulate(calls, max), self.keys, strict=True)
        return max(held + call + keys for held, call, keys in rows)


def _solved(rising: Callable[[float], float], wanted: float) -> float:
    """Where a rising function reaches a value, between 0 and 64."""
    low, high = 0.0, 64.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return high
