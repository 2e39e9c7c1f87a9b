"""Bytes and seconds of one pass of the engines over its size: a line through sizes that were measured."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..calls.strategy import Strategy
from ..calls.workload import Workload, volume
from .calibration import Points
from .calibration_sizes import calibration_sizes
from .probe import Point, Probe

__all__ = ["CostLines", "Line", "attention_bytes"]

Cells = tuple[int, ...]
_LIMIT_SECONDS = {False: 4.0, True: 8.0}  # of a calibrating call, or stream, beyond the smallest ones
_SHORTER = {"onnxruntime": 0.5}  # of that, where memory is proportional to the size
_SHARE_OF_CALL = {False: 0.04, True: 0.08}  # of a long call's own time may be measured, and
_LONGEST_SECONDS = {False: 30.0, True: 60.0}  # at all; streams bend more, since every stage has its own largest step
_LEAST_SLOPE = 0.05  # of what was measured beyond the engine lies in memory that grows: small calls differ by chance
_MOST_STEP = 16  # times as large as the one before it may a calibrating call be
_APART = (2.5, 6.0)  # times as large as the other one is the larger of the two that a line goes through
_SCORES = {"onnxruntime": 2}  # copies of attention's scores that an engine holds; others fuse it and hold none
_ATTENTION_INPUTS = 9  # arrays of the size of attention's input, beside its scores
_MOST_ATTENTION = 0.75  # of what was measured beyond the engine
_ITEM_BYTES = 4


@dataclass(frozen=True)
class Line:
    """Through a point at `volume`, with a slope in bytes. `loaded_bytes`: the most that an open engine was seen to
    hold."""

    point: Point
    volume: int
    slope: float
    loaded_bytes: int

    def at(self, volume: float) -> float:
        call = self.point.call_bytes + self.slope * (volume - self.volume)
        return max(self.loaded_bytes + max(call, 0), self.point.opening_bytes)

    @property
    def unit_seconds(self) -> float:
        return self.point.seconds / self.volume


@dataclass(frozen=True)
class CostLines:
    """Measures what a line needs, small sizes first: as large ones as take little time, or a small part of the call's
    own, and none of which the smaller ones say that it needs more than `most_bytes`. `minimum`: of latents' height and
    width, by component. `fixed`: bytes that a call holds whatever its size; 0 where nobody knows."""

    points: Points
    backend: str
    minimum: Callable[[str], int]
    fixed: Callable[[Workload, Strategy], int]

    def line(self, work: Workload, strategy: Strategy, cells: Sequence[int], most_bytes: int | None) -> Line:
        """For passes over latents of about `cells`.

        Raises:
            EngineError: a size had to be measured, and does not run.
        """
        grid = work.grid
        stretched = (*cells[:-1], cells[-1] * work.batch)
        rungs = calibration_sizes(grid, stretched, self.minimum(work.component), whole_clip=strategy.streaming)
        seen: dict[Cells, Point] = {}

        def measured(rung: Cells) -> Point:
            if rung not in seen:
                point = self.points.point(Probe(work.component, rung, strategy))
                seen[rung] = replace(point, peak_bytes=point.peak_bytes - self._fixed(work, strategy, rung))
            return seen[rung]

        wanted = volume(grid, cells) * work.batch
        *_, chosen = rungs[0], *self._climb(work, strategy, rungs, measured, wanted, most_bytes)
        if len(seen) == 1 < len(rungs) and self._within(most_bytes, measured(rungs[0]), rungs[:2], work, strategy):
            chosen = rungs[1]  # whatever it takes: two tell more than one
        while chosen not in (rungs[0], rungs[-1]) and self._attends(work, chosen, measured(chosen)):
            chosen = rungs[rungs.index(chosen) - 1]
        stop = volume(grid, chosen)
        below = [rung for rung in rungs if _APART[0] < stop / volume(grid, rung) < _APART[1]]
        # Memory bends where buffers are small: a line through the larger ones is better.
        other = below[-1] if below and chosen != rungs[-1] else rungs[0]
        point, first = measured(chosen), measured(other)
        loaded = max(one.loaded_bytes for one in seen.values())
        if other == chosen:
            return Line(point, stop, point.call_bytes / stop, loaded)
        slope = (point.call_bytes - first.call_bytes) / (stop - volume(grid, other))
        if strategy.streaming and self.fixed(work, strategy):
            # In short streams what grows hides beneath what each stage holds at any size: the slope is too low, and
            # with the fixed part known a line through the origin is the better one.
            slope = max(slope, point.call_bytes / stop)
        return Line(point, stop, max(slope, _LEAST_SLOPE * point.call_bytes / stop), loaded)

    def _climb(
        self,
        work: Workload,
        strategy: Strategy,
        rungs: Sequence[Cells],
        measured: Callable[[Cells], Point],
        wanted: int,
        most_bytes: int | None,
    ) -> Iterator[Cells]:
        """Ever larger sizes, each of them measured, as far as it may go."""
        grid, place = work.grid, 0
        short = _LIMIT_SECONDS[strategy.streaming] * _SHORTER.get(self.backend, 1.0)
        while True:
            point, size = measured(rungs[place]), volume(grid, rungs[place])
            unit = (min(point.work_seconds, point.seconds) or point.seconds) / size
            share = _SHARE_OF_CALL[strategy.streaming] * unit * wanted
            limit = max(short, min(_LONGEST_SECONDS[strategy.streaming], share))
            reachable = [
                index
                for index in range(place + 1, len(rungs))
                if unit * volume(grid, rungs[index]) <= limit
                and self._within(most_bytes, point, (rungs[place], rungs[index]), work, strategy)
            ]
            if not reachable:
                return
            near = [index for index in reachable if volume(grid, rungs[index]) <= _MOST_STEP * size]
            place = near[-1] if near else reachable[0]
            measured(rungs[place])
            yield rungs[place]

    def _within(
        self, most_bytes: int | None, point: Point, rungs: Sequence[Cells], work: Workload, strategy: Strategy
    ) -> bool:
        """Whether the second size takes no more than that, as the first one says, whose point it is: small calls hold
        more for their size."""
        held = point.call_bytes * volume(work.grid, rungs[1]) / volume(work.grid, rungs[0])
        held += self._fixed(work, strategy, rungs[1])
        return most_bytes is None or point.loaded_bytes + held <= most_bytes

    def _fixed(self, work: Workload, strategy: Strategy, cells: Cells) -> int:
        return self.fixed(replace(work, batch=1, cells=cells), strategy)

    def _attends(self, work: Workload, cells: Cells, point: Point) -> bool:
        """Whether it was attention that held the most, of which nothing is learned about the rest."""
        held = attention_bytes(replace(work, batch=1, cells=cells), self.backend)
        return held > _MOST_ATTENTION * point.call_bytes


def attention_bytes(work: Workload, backend: str) -> int:
    """What attention holds in one pass: its scores, and what is as large as its input."""
    copies = _SCORES.get(backend, 0)
    if not work.scores or not copies:
        return 0
    inputs = _ATTENTION_INPUTS * work.config.attention_channels * work.batch * math.prod(work.cells)
    return _ITEM_BYTES * (copies * work.scores + inputs)
