"""What a strategy would take, from measurements of small calls and the sizes of the arrays around the engine."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ...tiling import Plan
from ...tiling.plan import Direction
from ..backends.onnxruntime.arena import block_bytes, table_bytes
from ..bundle.manifest import Manifest
from ..calls.strategy import WHOLE, Strategy
from ..calls.strip_settings import StripSettings
from ..calls.workload import Workload, volume
from ..execution.stream_lengths import frames_ahead, most_frames, peak_estimate_bytes, step_frames
from .calibration import Points
from .candidates import TileSizes
from .cost_lines import CostLines, attention_bytes
from .strip_costs import strip_cost

__all__ = ["Cost", "Costing", "Costs", "plan_of"]

_LEAN = 1.06  # predictions are a little high rather than low
_STREAM_LEAN = 1.03  # beyond the others': every stage has its own largest step
_STRIP_LEAN = 0.97  # less than the others': their tiles are counted one by one
_ITEM_BYTES = 4
_MARGIN = 0.05  # of a prediction: what calls were seen to miss it by


@dataclass(frozen=True)
class Cost:
    """`bytes`: the most that is held for the call: on a host by the process, the engine and its library included; on a
    device, of its memory. `seconds`: of the call, once the engine is open; None: nobody knows. `margin_bytes`: by how
    much the peak may miss `bytes`."""

    bytes: int
    seconds: float | None
    margin_bytes: int = 0

    @property
    def most_bytes(self) -> int:
        """What a budget has to allow."""
        return self.bytes + self.margin_bytes


class Costing(Protocol):
    """What a planner asks. `of` is to be relied on; `about` is told at once. What is found out on the way takes no
    more than `most_bytes` (None: as much as it likes).

    Raises:
        EngineError: the strategy does not run, or could not be measured.
    """

    def of(self, work: Workload, strategy: Strategy, most_bytes: int | None = None) -> Cost: ...

    def about(self, work: Workload, strategy: Strategy, most_bytes: int | None = None) -> Cost: ...

    def tile_sizes(self, work: Workload) -> TileSizes:
        """Of tiles that may be run."""


class Costs:
    """Costs on the host's memory. `backend`: its name; `points`: the measurements; `dtype`: of the graphs that run."""

    def __init__(self, manifest: Manifest, backend: str, points: Points, dtype: str = "float32") -> None:
        self._manifest, self._backend, self._points, self._dtype = manifest, backend, points, dtype
        self._lines = CostLines(
            points, backend, lambda name: max(manifest.config.min_latent_size(name), 1), self._accounts
        )

    def of(self, work: Workload, strategy: Strategy, most_bytes: int | None = None) -> Cost:
        own = replace(work, batch=1) if strategy.sliced else work
        held: float
        match strategy.kind:
            case "strips":
                held, seconds = strip_cost(self._manifest, self._points, own, strategy, self._dtype)
                held *= _STRIP_LEAN
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
        """For tiles: from what was measured for a pass over everything."""
        own = replace(work, batch=1) if strategy.sliced else work
        plan = plan_of(own, strategy)
        tile = plan.largest
        cells = (own.cells[0], *tile) if strategy.streaming else tile
        if strategy.streaming:
            _, seconds = self._stream(own, strategy.untiled, most_bytes)
            line = self._lines.line(own, strategy.untiled, self._probed(own, strategy), most_bytes)
            held = line.at(volume(own.grid, self._probed(replace(own, cells=cells), strategy)) * own.batch)
            held += self._side_by_side(own, strategy) + self._accounts(replace(own, cells=cells), strategy)
        else:
            _, seconds = self._pass(own, WHOLE, own.cells, most_bytes)
            line = self._lines.line(own, WHOLE, own.cells, most_bytes)
            held = line.at(volume(own.grid, cells) * own.batch) + own.result_bytes(tile)
            held += self._accounts(replace(own, cells=cells), WHOLE)
        share = math.prod(tile) * plan.count / math.prod(own.cells[-len(tile) :])
        return self._with_all(work, strategy, held, seconds * share * (work.batch // own.batch))

    def tile_sizes(self, work: Workload) -> TileSizes:
        return TileSizes()

    def _with_all(self, work: Workload, strategy: Strategy, held: float, seconds: float) -> Cost:
        own = int(_LEAN * (held + _around(work, strategy)))
        return Cost(own + work.beside_bytes, seconds, int(_MARGIN * own))

    def _tiles(self, work: Workload, strategy: Strategy, most_bytes: int | None) -> tuple[float, float]:
        plan = plan_of(work, strategy)
        tile = plan.largest
        held, seconds = self._pass(work, WHOLE, tile, most_bytes)
        return held + work.result_bytes(tile), seconds * plan.count

    def _stream(self, work: Workload, strategy: Strategy, most_bytes: int | None) -> tuple[float, float]:
        probed = self._probed(work, strategy)
        held, seconds = self._pass(work, strategy.untiled, probed, most_bytes)
        own = 0 if work.decodes else replace(work, cells=probed).input_bytes  # what it was cut from is counted around
        return _STREAM_LEAN * held - own, seconds * work.cells[0] / probed[0]

    def _stream_tiles(self, work: Workload, strategy: Strategy, most_bytes: int | None) -> tuple[float, float]:
        """Streams side by side share the engine. Each of them holds its states, and its part of a chunk of the clip
        while the others make theirs; then that chunk is put together."""
        plan = plan_of(work, strategy)
        height, width = plan.largest
        held, seconds = self._stream(replace(work, cells=(work.cells[0], height, width)), strategy.untiled, most_bytes)
        return held + self._side_by_side(work, strategy), seconds * plan.count

    def _side_by_side(self, work: Workload, strategy: Strategy) -> int:
        """What streams side by side hold beyond one of them, in bytes."""
        plan = plan_of(work, strategy)
        chunk = self._chunk_bytes(work, strategy)
        others = (plan.count - 1) * math.prod(plan.largest)
        both = 2 * chunk * math.prod(work.cells[1:])  # put together, and the one before it, which the caller holds
        return int((self._state_bytes(work) + chunk) * others + both)

    def _chunk_bytes(self, work: Workload, strategy: Strategy) -> float:
        """Of the largest chunk of the clip that a stream gives in float32, per latent cell of height and width: at its
        end all frames come that the last stage held back."""
        if work.decodes:
            last = self._manifest.find_streams(work.component, self._dtype)[-1].stage
            frames = max(strategy.frames_per_chunk or 1, 0 if last is None else last.lead)
            return work.batch * _ITEM_BYTES * work.config.out_channels * frames * work.grid.spatial**2
        frames = max(strategy.frames_per_chunk or 1, work.grid.temporal)
        return work.batch * _ITEM_BYTES * 2 * work.config.latent_channels * frames / work.grid.temporal

    def _state_bytes(self, work: Workload) -> int:
        """Of what all stages of a stream remember, per latent cell of height and width."""
        one = {"batch": work.batch, "height": 1, "width": 1}
        states = (
            tensor
            for graph in self._manifest.find_streams(work.component, self._dtype)
            for tensor in graph.inputs
            if tensor.name.startswith("state_")
        )
        return _ITEM_BYTES * sum(math.prod(tensor.shape_for(one)) for tensor in states)

    def _probed(self, work: Workload, strategy: Strategy) -> tuple[int, ...]:
        """The clip, or as much of it as a stream's memory grows with: all stages have had their first chunks, and whole
        ones after them; with as many frames as the first chunks take, they would be the last ones, too."""
        chunk = -(-(strategy.frames_per_chunk or work.grid.temporal) // work.grid.temporal)
        ahead = frames_ahead(self._manifest.find_streams(work.component, self._dtype)) if work.decodes else 0
        lead = math.ceil(ahead / work.grid.temporal) + max(1 + 2 * chunk, 5 if work.decodes else 3)
        return (min(work.cells[0], lead), *work.cells[1:])

    def _pass(
        self, work: Workload, strategy: Strategy, cells: Sequence[int], most_bytes: int | None
    ) -> tuple[float, float]:
        """One pass of the engines over latents of `cells`, with what goes in and what comes out."""
        line = self._lines.line(work, strategy, cells, most_bytes)
        wanted = volume(work.grid, cells) * work.batch
        held, own = line.at(wanted), replace(work, cells=tuple(cells))
        if not strategy.streaming:
            held = max(held, line.at(0) + attention_bytes(own, self._backend))
        return held + self._accounts(own, strategy), line.unit_seconds * wanted

    def _accounts(self, work: Workload, strategy: Strategy) -> int:
        """What an arena writes to keep account of its block."""
        if self._backend != "onnxruntime":
            return 0
        room = work.peak_estimate_bytes
        if strategy.streaming:
            graphs = self._manifest.find_streams(work.component, self._dtype)
            frames = tuple(step_frames(graphs, strategy.frames_per_chunk or most_frames(work.component)))
            room = peak_estimate_bytes(graphs, frames, work.batch * math.prod(work.cells[1:]))
        return table_bytes(block_bytes(room))


def plan_of(work: Workload, strategy: Strategy) -> Plan:
    """The tiles of the strategy; of height and width only, where it streams."""
    assert strategy.tiling is not None
    assert not isinstance(strategy.tiling, StripSettings)
    direction: Direction = "decode" if work.decodes else "encode"
    plan = strategy.tiling.plan(work.grid, direction, (1, *work.cells[1:]) if strategy.streaming else work.cells)
    return replace(plan, lines=plan.lines[1:]) if strategy.streaming else plan


def _around(work: Workload, strategy: Strategy) -> int:
    """What lies beside the engines' own: the result while it is put together, pixels, and an input that is not the
    engine's."""
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
