"""What a strategy would take, from measurements of small calls and the sizes of the arrays around the engine."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from ..tiling import Plan
from ..tiling.plan import Direction
from .backends.onnxruntime_arena import BLOCK_BYTES, TABLE_BYTES
from .calibration import Points
from .config import ImageConfig
from .exact_execution import PART_FOR_TILES, plan_exact
from .exact_settings import ExactStrips
from .jobs import Job
from .ladder import ladder
from .manifest import Manifest
from .probe import Point, Probe
from .rehearsal import held_bytes
from .strategy import WHOLE, Strategy
from .stream_lengths import MOST_FRAMES, frames_ahead
from .workload import Workload, volume

__all__ = ["Cost", "Costs", "exact_job", "plan_of"]

_LEAN = 1.06  # predictions are a little high rather than low
_LIMIT_SECONDS = {False: 4.0, True: 8.0}  # of a calibrating call, or stream, beyond the two smallest ones
_SHORTER = {"onnxruntime": 0.5}  # of that, where memory is proportional to the size
_FARTHEST = 32  # times as large as what was measured may a call be, unless measuring more takes too long:
_SHARE_OF_CALL, _LONGEST_SECONDS = 0.02, 20.0  # of the call's own time, and at all
_LEAST_SLOPE = 0.05  # of what was measured beyond the engine lies in memory that grows: small calls differ by chance
_SCORES = {"onnxruntime": 2}  # copies of attention's scores that an engine holds; others fuse it and hold none
_IDLE_SHARE = 0.06  # of what lies in more than one block
_ATTENTION_INPUTS = 9  # arrays of the size of attention's input, beside its scores
_MOST_ATTENTION = 0.75  # of what was measured beyond the engine
_ITEM_BYTES = 4
_STRIP_SIDES = (12, 24)  # latent cells of the pictures on which strips are measured
_STRIP_LEAN = 1.06  # beyond the others': steps differ in how much a call takes for its result
_DISK_BYTES_PER_SECOND = 5e8


@dataclass(frozen=True)
class Cost:
    """`bytes`: the most that the process holds for the call, the engine and its library included. `seconds`: of the
    call, once the engine is open."""

    bytes: int
    seconds: float


class Costs:
    """Costs of the strategies of one bundle. `backend`: its name; `points`: the measurements."""

    def __init__(self, manifest: Manifest, backend: str, points: Points) -> None:
        self._manifest, self._backend, self._points = manifest, backend, points

    def of(self, work: Workload, strategy: Strategy) -> Cost:
        """What the strategy takes.

        Raises:
            EngineError: a calibration was needed and failed.
        """
        own = replace(work, batch=1) if strategy.sliced else work
        if strategy.kind == "strips":
            cost = self._strips(own, strategy)
        elif strategy.kind == "tiles":
            cost = self._tiles(own, strategy)
        elif strategy.kind == "stream":
            cost = self._stream(own, strategy)
        elif strategy.kind == "stream + tiles":
            cost = self._stream_tiles(own, strategy)
        else:
            cost = self._whole(own)
        rounds = work.batch // own.batch
        return Cost(int(_LEAN * (cost.bytes + _around(work, strategy))), cost.seconds * rounds)

    def _whole(self, work: Workload) -> Cost:
        return self._pass(work, WHOLE, work.cells)

    def _tiles(self, work: Workload, strategy: Strategy) -> Cost:
        plan = plan_of(work, strategy)
        tile = _largest_tile(plan)
        one = self._pass(work, WHOLE, tile)
        return Cost(one.bytes + work.result_bytes(tile), one.seconds * plan.count)

    def _stream(self, work: Workload, strategy: Strategy) -> Cost:
        probed = self._probed(work, strategy)
        one = self._pass(work, strategy.untiled, probed)
        own = 0 if work.decodes else replace(work, cells=probed).input_bytes  # what it was cut from is counted around
        return Cost(one.bytes - own, one.seconds * work.cells[0] / probed[0])

    def _stream_tiles(self, work: Workload, strategy: Strategy) -> Cost:
        """Streams side by side share the engine. Each of them holds its states, and its part of a chunk of the clip
        while the others make theirs; then that chunk is put together."""
        plan = plan_of(work, strategy)
        height, width = _largest_tile(plan)
        tile = replace(work, cells=(work.cells[0], height, width))
        one = self._stream(tile, strategy.untiled)
        return Cost(one.bytes + self._side_by_side(work, strategy), one.seconds * plan.count)

    def _side_by_side(self, work: Workload, strategy: Strategy) -> int:
        """What streams side by side hold beyond one of them, in bytes."""
        plan = plan_of(work, strategy)
        chunk = self._chunk_bytes(work, strategy)
        others = (plan.count - 1) * math.prod(_largest_tile(plan))
        return int((self._state_bytes(work) + chunk) * others + chunk * math.prod(work.cells[1:]))

    def _chunk_bytes(self, work: Workload, strategy: Strategy) -> float:
        """Of the largest chunk of the clip that a stream gives in float32, per latent cell of height and width: its
        end, where all frames come that stages held back, is one."""
        if work.decodes:
            frames = max(strategy.frames_per_chunk or 1, MOST_FRAMES)
            return work.batch * _ITEM_BYTES * work.config.out_channels * frames * work.grid.spatial**2
        frames = max(strategy.frames_per_chunk or 1, work.grid.temporal)
        return work.batch * _ITEM_BYTES * 2 * work.config.latent_channels * frames / work.grid.temporal

    def _state_bytes(self, work: Workload) -> int:
        """Of what all stages of a stream remember, per latent cell of height and width."""
        one = {"batch": work.batch, "height": 1, "width": 1}
        states = (
            tensor
            for graph in self._manifest.find_streams(work.component)
            for tensor in graph.inputs
            if tensor.name.startswith("state_")
        )
        return _ITEM_BYTES * sum(math.prod(tensor.shape_for(one)) for tensor in states)

    def _strips(self, work: Workload, strategy: Strategy) -> Cost:
        (small, small_peak, _), (large, large_peak, seconds) = (
            self._strip_point(work, strategy, side) for side in _STRIP_SIDES
        )
        factor = _solved(lambda factor: large.most(factor) - small.most(factor), large_peak - small_peak)
        base = large_peak - large.most(factor)
        steps = _StripSteps.of(self._manifest, work, strategy)
        per_pixel = seconds / (_STRIP_SIDES[1] * work.grid.spatial) ** 2
        seconds = per_pixel * work.batch * math.prod(work.size) + steps.in_files / _DISK_BYTES_PER_SECOND
        return Cost(int(_STRIP_LEAN * (base + steps.most(factor))), seconds)

    def _strip_point(self, work: Workload, strategy: Strategy, side: int) -> tuple["_StripSteps", int, float]:
        """A small exact pass in three strips: what its steps hold, its peak beside input and result, its seconds."""
        settings = Strategy(ExactStrips(side * work.grid.spatial // 3, None, 1 << 40))
        small = replace(work, batch=1, cells=(side, side), output="float32")
        point = self._points.point(Probe(work.component, small.cells, settings))
        around = small.input_bytes + small.result_bytes()
        return _StripSteps.of(self._manifest, small, settings), point.peak_bytes - around, point.seconds

    def about(self, work: Workload, strategy: Strategy) -> Cost:
        """The same for tiles, at once: from what was measured for a pass over everything, so not to be relied on."""
        own = replace(work, batch=1) if strategy.sliced else work
        plan = plan_of(own, strategy)
        tile = _largest_tile(plan)
        cells = (own.cells[0], *tile) if strategy.streaming else tile
        if strategy.streaming:
            whole = self._stream(own, strategy.untiled)
            line = self._line(own, strategy.untiled, self._probed(own, strategy))
            memory = line.at(volume(own.grid, self._probed(replace(own, cells=cells), strategy)) * own.batch)
            memory += self._side_by_side(own, strategy)
        else:
            whole = self._pass(own, WHOLE, own.cells)
            line = self._line(own, WHOLE, own.cells)
            memory = line.at(volume(own.grid, cells) * own.batch) + own.result_bytes(tile)
        share = math.prod(tile) * plan.count / math.prod(own.cells[-len(tile) :])
        rounds = work.batch // own.batch
        return Cost(int(_LEAN * (memory + _around(work, strategy))), whole.seconds * share * rounds)

    def _probed(self, work: Workload, strategy: Strategy) -> tuple[int, ...]:
        """The clip, or as much of it as a stream's memory grows with: all stages have had their first chunks, and whole
        ones after them; with as many frames as the first chunks take, they would be the last ones, too."""
        chunk = -(-(strategy.frames_per_chunk or work.grid.temporal) // work.grid.temporal)
        lead = self._lead(work) + max(1 + 2 * chunk, 5 if work.decodes else 3)
        return (min(work.cells[0], lead), *work.cells[1:])

    def _pass(self, work: Workload, strategy: Strategy, cells: Sequence[int]) -> Cost:
        """One pass of the engines over latents of `cells`, with what goes in and what comes out."""
        line = self._line(work, strategy, cells)
        wanted = volume(work.grid, cells) * work.batch
        memory = line.at(wanted)
        if not strategy.streaming:
            memory = max(memory, line.at(0) + self._attention(replace(work, cells=tuple(cells))))
        memory += self._further_blocks(memory - line.loaded_bytes)
        return Cost(int(memory), line.unit_seconds * wanted)

    def _further_blocks(self, memory: float) -> float:
        """What it costs that `memory` bytes lie in more than one block of an arena: their accounts, and room that stays
        idle, since no tensor lies across two of them."""
        further = int(memory // BLOCK_BYTES) if self._backend == "onnxruntime" else 0
        return further * TABLE_BYTES + (_IDLE_SHARE * memory if further else 0)

    def _attention(self, work: Workload) -> int:
        """Bytes that attention holds: its scores, and what is as large as its input."""
        copies = _SCORES.get(self._backend, 0)
        if not work.scores or not copies:
            return 0
        assert isinstance(work.config, ImageConfig)
        inputs = _ATTENTION_INPUTS * work.config.block_out_channels[-1] * work.batch * math.prod(work.cells)
        return _ITEM_BYTES * (copies * work.scores + inputs)

    def _attends(self, work: Workload, cells: tuple[int, ...], point: Point) -> bool:
        """Whether it was attention that held the most, of which nothing is learned about the rest."""
        held = self._attention(replace(work, batch=1, cells=cells))
        return held > _MOST_ATTENTION * (point.peak_bytes - point.loaded_bytes)

    def _line(self, work: Workload, strategy: Strategy, cells: Sequence[int]) -> "_Line":
        """Bytes and seconds over the volume, through the sizes that stand for `cells`."""
        grid, streams = work.grid, strategy.streaming
        stretched = (*cells[:-1], cells[-1] * work.batch)
        rungs = ladder(grid, stretched, self._minimum(work.component), whole_clip=streams)

        def measured(rung: tuple[int, ...]) -> Point:
            return self._points.point(Probe(work.component, rung, strategy))

        least = rungs[0]
        first = measured(least)
        if len(rungs) == 1:
            return _Line(first, volume(grid, least), 0.0)
        unit = (min(first.work_seconds, first.seconds) or first.seconds) / volume(grid, least)
        limit = _LIMIT_SECONDS[streams] * _SHORTER.get(self._backend, 1.0)
        fast = [rung for rung in rungs[1:] if unit * volume(grid, rung) <= limit] or [rungs[1]]
        chosen = fast.pop()
        second = measured(chosen)
        while fast and chosen != rungs[-1] and self._attends(work, chosen, second):
            chosen = fast.pop()
            second = measured(chosen)
        wanted = volume(grid, cells) * work.batch
        long = min(_LONGEST_SECONDS, _SHARE_OF_CALL * unit * wanted)
        for rung in [rung for rung in rungs if volume(grid, rung) > volume(grid, chosen)]:
            seconds = second.work_seconds * volume(grid, rung) / volume(grid, chosen)
            if wanted <= _FARTHEST * volume(grid, chosen) or seconds > long:
                break
            chosen, second = rung, measured(rung)
        below = [rung for rung in rungs[1:] if 2.5 < volume(grid, chosen) / volume(grid, rung) < 6]
        if (
            chosen != rungs[-1] and below
        ):  # memory bends where buffers are small: a line through the larger ones is better
            least, first = below[-1], measured(below[-1])
        start, stop = volume(grid, least), volume(grid, chosen)
        slope = (second.peak_bytes - first.peak_bytes) / (stop - start)
        return _Line(second, stop, max(slope, _LEAST_SLOPE * (second.peak_bytes - second.loaded_bytes) / stop))

    def _minimum(self, component: str) -> int:
        return max(self._manifest.config.min_latent_size(component), 1)

    def _lead(self, work: Workload) -> int:
        """Latent frames that a stream's stages take before anything comes out."""
        frames = frames_ahead(self._manifest.find_streams(work.component)) if work.decodes else 0
        return math.ceil(frames / work.grid.temporal)


def plan_of(work: Workload, strategy: Strategy) -> Plan:
    """The tiles of the strategy; of height and width only, where it streams."""
    assert strategy.tiling is not None
    assert not isinstance(strategy.tiling, ExactStrips)
    direction: Direction = "decode" if work.decodes else "encode"
    plan = strategy.tiling.plan(work.grid, direction, (1, *work.cells[1:]) if strategy.streaming else work.cells)
    return replace(plan, lines=plan.lines[1:]) if strategy.streaming else plan


def exact_job(manifest: Manifest, work: Workload, strategy: Strategy) -> Job:
    """The job of an exact pass over an array that takes no memory."""
    assert isinstance(strategy.tiling, ExactStrips)
    segments = manifest.find_segments(work.component)
    source = work.cells if work.decodes else work.size
    target = work.size if work.decodes else work.cells
    array = np.broadcast_to(np.float32(0), (work.batch, 1, *source))
    shape = (work.batch, 1, *target)
    return Job(segments[0], "", array, None, shape, target, exact=strategy.tiling, segments=segments)  # type: ignore[arg-type]


def _around(work: Workload, strategy: Strategy) -> int:
    """What lies beside the engines' own: the result while it is put together, pixels, and an input that is not the
    engine's."""
    result, pieces = work.result_bytes(), strategy.kind != "whole" or (strategy.sliced and work.batch > 1)
    pixels = result // _ITEM_BYTES if work.output != "float32" else 0
    if not pieces:
        return pixels
    if strategy.kind == "strips":
        return work.input_bytes + (pixels or result)
    if strategy.kind == "tiles" and pixels:
        plan = plan_of(work, strategy)
        spans = sorted((len(span) for span in plan.groups()), reverse=True)
        rows = result // plan.target_size[0]
        held = sum(spans[:2]) * rows
        return work.input_bytes + held + (pixels if work.output == "uint8" else spans[0] * rows // _ITEM_BYTES)
    if work.output == "frames":
        return work.input_bytes
    return work.input_bytes + (pixels or result)


def _largest_tile(plan: Plan) -> tuple[int, ...]:
    return tuple(max(len(piece.cells) for piece in line.pieces) for line in plan.lines)


@dataclass(frozen=True)
class _Line:
    """Through a point at `volume`, with a slope in bytes."""

    point: Point
    volume: int
    slope: float

    def at(self, volume: float) -> float:
        return max(self.point.peak_bytes + self.slope * (volume - self.volume), self.loaded_bytes)

    @property
    def loaded_bytes(self) -> int:
        return self.point.loaded_bytes

    @property
    def unit_seconds(self) -> float:
        return self.point.seconds / self.volume


@dataclass(frozen=True)
class _StripSteps:
    """An exact pass's steps in bytes: `held` between them, `tile`: of one tile's result, `scores` and `keys` (with
    values) of attention. `in_files`: what is written to files."""

    held: tuple[int, ...]
    tile: tuple[int, ...]
    scores: tuple[int, ...]
    keys: tuple[int, ...]
    in_files: int

    @classmethod
    def of(cls, manifest: Manifest, work: Workload, strategy: Strategy) -> "_StripSteps":
        job = exact_job(manifest, work, strategy)
        assert job.exact is not None
        steps = plan_exact(job)
        held, in_files = held_bytes(steps, work.batch, int((1 - PART_FOR_TILES) * job.exact.budget_bytes))
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
