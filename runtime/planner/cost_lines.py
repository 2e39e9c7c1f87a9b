"""Bytes and seconds of one pass of the engines as a function of its size: a line through measured sizes."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..backends.memory_model import MeasuredMemory
from ..calls.strategy import Strategy
from ..calls.workload import Workload, volume
from .calibration import Points
from .calibration_sizes import calibration_sizes
from .probe import Point, Probe
from .tuning import (
    ATTENTION_INPUT_COPIES,
    LARGEST_SIZE_STEP,
    LEAST_SLOPE_SHARE,
    LONG_CALL_SHARE,
    LONGEST_SECONDS,
    MOST_ATTENTION_SHARE,
    SECOND_POINT_RATIOS,
    SHORT_SECONDS,
)

__all__ = ["CostLine", "CostLines", "attention_bytes"]

Cells = tuple[int, ...]
_ITEM_BYTES = 4


@dataclass(frozen=True)
class CostLine:
    """A line through one measured point.

    Attributes:
        point: the point.
        volume: the size at which it was measured (`calls.workload.volume`).
        slope: bytes per unit of volume.
        loaded_bytes: the most that an open engine was seen to hold.
    """

    point: Point
    volume: int
    slope: float
    loaded_bytes: int

    def at(self, volume: float) -> float:
        """The bytes of a pass of that volume."""
        call = self.point.call_bytes + self.slope * (volume - self.volume)
        return max(self.loaded_bytes + max(call, 0), self.point.opening_bytes)

    @property
    def unit_seconds(self) -> float:
        """The seconds of a pass per unit of volume."""
        return self.point.seconds / self.volume


@dataclass(frozen=True)
class CostLines:
    """Measures calls, small sizes first, and draws lines through them.

    A larger size is measured only if the smaller sizes predict two things: it takes at most the allowed bytes, and it
    takes little time, or a small part of the time of the call that is planned.

    Attributes:
        points: gives measured points.
        memory: the backend's memory model.
        minimum: gives the least height and width of latents, by component.
        fixed: gives the bytes of a call that are known without measuring, such as the bookkeeping of an arena.
    """

    points: Points
    memory: MeasuredMemory
    minimum: Callable[[str], int]
    fixed: Callable[[Workload, Strategy], int]

    def line(self, work: Workload, strategy: Strategy, cells: Sequence[int], most_bytes: int | None) -> CostLine:
        """The line for passes over latents of about `cells`.

        Raises:
            EngineError: a size had to be measured, and does not run.
        """
        grid = work.grid
        stretched = (*cells[:-1], cells[-1] * work.batch)
        sizes = calibration_sizes(grid, stretched, self.minimum(work.component), whole_clip=strategy.streaming)
        seen: dict[Cells, Point] = {}

        def measured(size: Cells) -> Point:
            if size not in seen:
                point = self.points.point(Probe(work.component, size, strategy))
                seen[size] = replace(point, peak_bytes=point.peak_bytes - self._fixed(work, strategy, size))
            return seen[size]

        wanted = volume(grid, cells) * work.batch
        *_, chosen = sizes[0], *self._climb(work, strategy, sizes, measured, wanted, most_bytes)
        if len(seen) == 1 < len(sizes) and self._within(most_bytes, measured(sizes[0]), sizes[:2], work, strategy):
            chosen = sizes[1]  # a line needs two points, so the time limit does not count here
        while chosen not in (sizes[0], sizes[-1]) and self._attends(work, chosen, measured(chosen)):
            chosen = sizes[sizes.index(chosen) - 1]
        stop = volume(grid, chosen)
        below = [size for size in sizes if SECOND_POINT_RATIOS[0] < stop / volume(grid, size) < SECOND_POINT_RATIOS[1]]
        # Memory bends where buffers are small, so a line through the larger sizes is better.
        other = below[-1] if below and chosen != sizes[-1] else sizes[0]
        point, first = measured(chosen), measured(other)
        loaded = max(one.loaded_bytes for one in seen.values())
        if other == chosen:
            return CostLine(point, stop, point.call_bytes / stop, loaded)
        slope = (point.call_bytes - first.call_bytes) / (stop - volume(grid, other))
        if strategy.streaming and self.fixed(work, strategy):
            # In short streams the part that grows is hidden by what each stage holds at any size, and the slope is too
            # low. The fixed part is known here, so a line through the origin is better.
            slope = max(slope, point.call_bytes / stop)
        return CostLine(point, stop, max(slope, LEAST_SLOPE_SHARE * point.call_bytes / stop), loaded)

    def _climb(
        self,
        work: Workload,
        strategy: Strategy,
        sizes: Sequence[Cells],
        measured: Callable[[Cells], Point],
        wanted: int,
        most_bytes: int | None,
    ) -> Iterator[Cells]:
        """Measure larger and larger sizes up to the limits of seconds and bytes, and yield each measured size."""
        grid, place = work.grid, 0
        short = SHORT_SECONDS[strategy.streaming] * self.memory.calibration_share
        while True:
            point, size = measured(sizes[place]), volume(grid, sizes[place])
            unit = (min(point.work_seconds, point.seconds) or point.seconds) / size
            share = LONG_CALL_SHARE[strategy.streaming] * unit * wanted
            limit = max(short, min(LONGEST_SECONDS[strategy.streaming], share))
            reachable = [
                index
                for index in range(place + 1, len(sizes))
                if unit * volume(grid, sizes[index]) <= limit
                and self._within(most_bytes, point, (sizes[place], sizes[index]), work, strategy)
            ]
            if not reachable:
                return
            near = [index for index in reachable if volume(grid, sizes[index]) <= LARGEST_SIZE_STEP * size]
            place = near[-1] if near else reachable[0]
            measured(sizes[place])
            yield sizes[place]

    def _within(
        self, most_bytes: int | None, point: Point, sizes: Sequence[Cells], work: Workload, strategy: Strategy
    ) -> bool:
        """Whether a call of the second of two sizes takes at most `most_bytes`, judged by the `point` of the first.
        Small calls hold more for their size, so this errs on the safe side."""
        held = point.call_bytes * volume(work.grid, sizes[1]) / volume(work.grid, sizes[0])
        held += self._fixed(work, strategy, sizes[1])
        return most_bytes is None or point.loaded_bytes + held <= most_bytes

    def _fixed(self, work: Workload, strategy: Strategy, cells: Cells) -> int:
        return self.fixed(replace(work, batch=1, cells=cells), strategy)

    def _attends(self, work: Workload, cells: Cells, point: Point) -> bool:
        """Whether attention held most of the call's memory. The point is then no measurement of the other layers."""
        held = attention_bytes(replace(work, batch=1, cells=cells), self.memory.attention_score_copies)
        return held > MOST_ATTENTION_SHARE * point.call_bytes


def attention_bytes(work: Workload, score_copies: int) -> int:
    """The bytes that attention holds in one pass: `score_copies` of its scores, and arrays of the size of its input.
    0 for fused attention, which has no scores."""
    if not work.scores or not score_copies:
        return 0
    inputs = ATTENTION_INPUT_COPIES * work.config.attention_channels * work.batch * math.prod(work.cells)
    return _ITEM_BYTES * (score_copies * work.scores + inputs)
