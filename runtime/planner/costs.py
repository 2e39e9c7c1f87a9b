"""What a strategy takes of the host's memory: measurements of small calls, and the sizes of the arrays around the
engine."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ...tiling import Plan
from ...tiling.plan import Direction
from ..backends.memory_model import MeasuredMemory
from ..bundle import ports
from ..bundle.manifest import Manifest
from ..calls.strategy import WHOLE, Strategy
from ..calls.strip_settings import StripSettings
from ..calls.workload import Workload, volume
from ..errors import EngineError
from ..execution.stream_lengths import frames_ahead, most_frames, peak_estimate_bytes, step_frames
from .calibration import Points
from .candidates import TileSizes
from .cost_lines import CostLines, attention_bytes
from .piece_costs import piece_bytes, piece_seconds
from .strip_costs import strip_cost
from .tuning import PEAK_MARGIN, PREDICTION_FACTOR, STREAM_FACTOR, STRIP_FACTOR

__all__ = ["Cost", "Costing", "Costs", "bytes_around", "plan_of"]

_ITEM_BYTES = 4


@dataclass(frozen=True)
class Cost:
    """What a call takes.

    Attributes:
        bytes: the most that is held for the call. On the host it counts the process with the engine and its library; on
            a GPU it counts GPU memory.
        seconds: the time of the call, once the engine is open. None: it is not known.
        margin_bytes: by how much the peak may exceed `bytes`.
        basis: where the numbers come from: "measured" (small calls), "bounded" (formulas of the graphs, nothing is
            measured), "estimated" (measurements of another strategy) or "recorded" (engines).
    """

    bytes: int
    seconds: float | None
    margin_bytes: int = 0
    basis: str = "measured"

    @property
    def most_bytes(self) -> int:
        """The least budget that allows the call."""
        return self.bytes + self.margin_bytes


class Costing(Protocol):
    """What the planner asks: `of` is measured, `about` is a quick estimate. Measuring takes at most `most_bytes`, or
    any amount (None).

    Raises:
        EngineError: the strategy does not run, or could not be measured.
    """

    def of(self, work: Workload, strategy: Strategy, most_bytes: int | None = None) -> Cost: ...

    def about(self, work: Workload, strategy: Strategy, most_bytes: int | None = None) -> Cost: ...

    def tile_sizes(self, work: Workload) -> TileSizes:
        """The sizes of the tiles that may run."""


class Costs:
    """Costs on the host's memory.

    Args:
        manifest: the bundle.
        memory: the backend's memory model.
        points: gives measured points.
        dtype: the precision of the graphs that run.
    """

    def __init__(self, manifest: Manifest, memory: MeasuredMemory, points: Points, dtype: str = "float32") -> None:
        self._manifest, self._memory, self._points, self._dtype = manifest, memory, points, dtype
        self._lines = CostLines(points, memory, lambda name: max(manifest.config.min_latent_size(name), 1), self._fixed)

    def of(self, work: Workload, strategy: Strategy, most_bytes: int | None = None) -> Cost:
        own = replace(work, batch=1) if strategy.sliced else work
        held: float
        match strategy.kind:
            case "strips":
                held, seconds = strip_cost(self._manifest, self._points, own, strategy, self._dtype)
                held *= STRIP_FACTOR
            case "stream in strips":
                held, seconds = self._stream_strips(own, strategy, most_bytes)
            case "tiles":
                held, seconds = self._tiles(own, strategy, most_bytes)
            case "stream":
                held, seconds = self._stream(own, strategy, most_bytes)
            case "stream + tiles":
                held, seconds = self._stream_tiles(own, strategy, most_bytes)
            case _:
                held, seconds = self._pass(own, WHOLE, own.cells, most_bytes)
        return self._with_all(work, strategy, held, seconds * (work.batch // own.batch))

    def about(self, work: Workload, strategy: Strategy, most_bytes: int | None = None) -> Cost:
        """The estimate for tiles, computed from the measurements for a single pass over the whole size."""
        own = replace(work, batch=1) if strategy.sliced else work
        plan = plan_of(own, strategy)
        tile = plan.largest
        cells = (own.cells[0], *tile) if strategy.streaming else tile
        if strategy.streaming:
            _, seconds = self._stream(own, strategy.untiled, most_bytes)
            line = self._lines.line(own, strategy.untiled, self._probed(own, strategy), most_bytes)
            held = line.at(volume(own.grid, self._probed(replace(own, cells=cells), strategy)) * own.batch)
            held += self._side_by_side(own, strategy) + self._fixed(replace(own, cells=cells), strategy)
        else:
            _, seconds = self._pass(own, WHOLE, own.cells, most_bytes)
            line = self._lines.line(own, WHOLE, own.cells, most_bytes)
            held = line.at(volume(own.grid, cells) * own.batch) + own.result_bytes(tile)
            held += self._fixed(replace(own, cells=cells), WHOLE)
        share = math.prod(tile) * plan.count / math.prod(own.cells[-len(tile) :])
        found = self._with_all(work, strategy, held, seconds * share * (work.batch // own.batch))
        return replace(found, basis="estimated")

    def tile_sizes(self, work: Workload) -> TileSizes:
        return TileSizes()

    def _with_all(self, work: Workload, strategy: Strategy, held: float, seconds: float) -> Cost:
        own = int(PREDICTION_FACTOR * (held + bytes_around(work, strategy)))
        return Cost(own + work.caller_bytes, seconds, int(PEAK_MARGIN * own))

    def _tiles(self, work: Workload, strategy: Strategy, most_bytes: int | None) -> tuple[float, float]:
        plan = plan_of(work, strategy)
        tile = plan.largest
        held, seconds = self._pass(work, WHOLE, tile, most_bytes)
        return held + work.result_bytes(tile), seconds * plan.count

    def _stream(self, work: Workload, strategy: Strategy, most_bytes: int | None) -> tuple[float, float]:
        probed = self._probed(work, strategy)
        held, seconds = self._pass(work, strategy.untiled, probed, most_bytes)
        own = 0 if work.decodes else replace(work, cells=probed).input_bytes  # `bytes_around` counts the whole input
        return STREAM_FACTOR * held - own, seconds * work.cells[0] / probed[0]

    def _stream_strips(self, work: Workload, strategy: Strategy, most_bytes: int | None) -> tuple[float, float]:
        """The cost of a stream in strips: that of the open engines, and an upper estimate of the pieces."""
        settings = strategy.tiling
        assert isinstance(settings, StripSettings)
        graphs, chunk = self._manifest.find_streams(work.component, self._dtype), strategy.frames_per_chunk
        if any(graph.halo is None for graph in graphs):
            raise EngineError("the bundle does not say how to cut frames into strips: export it again")
        plain = replace(strategy.untiled, frames_per_chunk=chunk or most_frames(work.component))
        probed = self._probed(work, plain)
        line = self._lines.line(work, plain, probed, most_bytes)
        seconds = line.unit_seconds * volume(work.grid, probed) * work.batch * work.cells[0] / probed[0]
        held = max(line.loaded_bytes, line.point.opening_bytes) + piece_bytes(graphs, work, settings, chunk)
        return held, piece_seconds(graphs, work, settings, chunk, seconds)

    def _stream_tiles(self, work: Workload, strategy: Strategy, most_bytes: int | None) -> tuple[float, float]:
        """The cost of several streams, one for each tile. They share the engine.

        Each stream holds its states. It also holds its tile of the current chunk until the other streams have computed
        theirs and the tiles are joined to a chunk of whole frames.
        """
        plan = plan_of(work, strategy)
        height, width = plan.largest
        held, seconds = self._stream(replace(work, cells=(work.cells[0], height, width)), strategy.untiled, most_bytes)
        return held + self._side_by_side(work, strategy), seconds * plan.count

    def _side_by_side(self, work: Workload, strategy: Strategy) -> int:
        """The bytes that all streams of the tiles hold in addition to what one stream holds."""
        plan = plan_of(work, strategy)
        chunk = self._chunk_bytes(work, strategy)
        others = (plan.count - 1) * math.prod(plan.largest)
        both = 2 * chunk * math.prod(work.cells[1:])  # this chunk, and the chunk before it, which the caller holds
        return int((self._state_bytes(work) + chunk) * others + both)

    def _chunk_bytes(self, work: Workload, strategy: Strategy) -> float:
        """The bytes of the largest float32 chunk of the clip that a stream gives, per latent cell of height and width.
        The last chunk brings all frames that the last stage held back."""
        if work.decodes:
            last = self._manifest.find_streams(work.component, self._dtype)[-1].stage
            frames = max(strategy.frames_per_chunk or 1, 0 if last is None else last.lead)
            return work.batch * _ITEM_BYTES * work.config.out_channels * frames * work.grid.spatial**2
        frames = max(strategy.frames_per_chunk or 1, work.grid.temporal)
        return work.batch * _ITEM_BYTES * 2 * work.config.latent_channels * frames / work.grid.temporal

    def _state_bytes(self, work: Workload) -> int:
        """The bytes of the states of all stages of a stream, per latent cell of height and width."""
        one = ports.stream_axes(work.batch, (1, 1))
        states = (
            tensor
            for graph in self._manifest.find_streams(work.component, self._dtype)
            for tensor in graph.inputs
            if ports.is_state(tensor.name)
        )
        return _ITEM_BYTES * sum(math.prod(tensor.shape_for(one)) for tensor in states)

    def _probed(self, work: Workload, strategy: Strategy) -> tuple[int, ...]:
        """The size of the clip to measure: the whole clip, or its first frames, if a stream's memory grows no further.

        These frames give each stage a first chunk and a whole chunk after it, so that no first chunk is also the last.
        """
        chunk = -(-(strategy.frames_per_chunk or work.grid.temporal) // work.grid.temporal)
        ahead = frames_ahead(self._manifest.find_streams(work.component, self._dtype)) if work.decodes else 0
        lead = math.ceil(ahead / work.grid.temporal) + max(1 + 2 * chunk, 5 if work.decodes else 3)
        return (min(work.cells[0], lead), *work.cells[1:])

    def _pass(
        self, work: Workload, strategy: Strategy, cells: Sequence[int], most_bytes: int | None
    ) -> tuple[float, float]:
        """One pass of the engines over latents of `cells`, with its inputs and outputs."""
        line = self._lines.line(work, strategy, cells, most_bytes)
        wanted = volume(work.grid, cells) * work.batch
        held, own = line.at(wanted), replace(work, cells=tuple(cells))
        if not strategy.streaming:
            held = max(held, line.at(0) + attention_bytes(own, self._memory.attention_score_copies))
        return held + self._fixed(own, strategy), line.unit_seconds * wanted

    def _fixed(self, work: Workload, strategy: Strategy) -> int:
        """The bytes of a call that the backend's memory model knows without measuring."""
        estimate = work.peak_estimate_bytes
        if strategy.streaming:
            graphs = self._manifest.find_streams(work.component, self._dtype)
            frames = tuple(step_frames(graphs, strategy.frames_per_chunk or most_frames(work.component)))
            estimate = peak_estimate_bytes(graphs, frames, work.batch * math.prod(work.cells[1:]))
        return self._memory.fixed_bytes(estimate)


def plan_of(work: Workload, strategy: Strategy) -> Plan:
    """The tiles of the strategy. A strategy that streams has tiles of height and width only."""
    assert strategy.tiling is not None
    assert not isinstance(strategy.tiling, StripSettings)
    direction: Direction = "decode" if work.decodes else "encode"
    plan = strategy.tiling.plan(work.grid, direction, (1, *work.cells[1:]) if strategy.streaming else work.cells)
    return replace(plan, lines=plan.lines[1:]) if strategy.streaming else plan


def bytes_around(work: Workload, strategy: Strategy) -> int:
    """The bytes outside the engines: the input of a call in pieces, the result while it is joined, and its pixels."""
    result, pieces = work.result_bytes(), strategy.kind != "whole" or (strategy.sliced and work.batch > 1)
    pixels = result // _ITEM_BYTES if work.output != "float32" else 0
    given = 0 if work.comes_in_chunks and strategy.streaming else work.input_bytes
    if not pieces:
        return pixels
    if strategy.kind == "strips":
        return given + (pixels or result)
    if strategy.kind == "tiles" and pixels:
        plan = plan_of(work, strategy)
        spans = sorted((len(span) for span in plan.groups), reverse=True)
        rows = result // plan.target_size[0]
        held = sum(spans[:2]) * rows
        return given + held + (pixels if work.output == "uint8" else spans[0] * rows // _ITEM_BYTES)
    if work.output == "frames":
        return given
    return given + (pixels or result)
