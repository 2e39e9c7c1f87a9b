"""What a call takes at least and at most, and about how long, from the formulas that the exporter derived. Nothing is
measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..backends.memory_model import LivenessBounds, MeasuredMemory
from ..bundle import ports
from ..bundle.graph import Graph
from ..bundle.graph_cost import GraphCost, GraphSize
from ..bundle.manifest import Manifest
from ..calls.strategy import Strategy
from ..calls.workload import Workload
from ..execution.stream_lengths import StepFrames, frames_per_step, peak_estimate_bytes
from .costs import bytes_around, plan_of
from .tuning import MULTIPLICATIONS_PER_SECOND, WRITTEN_PER_SECOND

__all__ = ["Bound", "Bounds"]

_ITEM_BYTES = 4


@dataclass(frozen=True)
class Bound:
    """What a call takes.

    Attributes:
        least_bytes: no call takes less.
        most_bytes: no call takes more.
        seconds: the time of the call by its operations. It is for comparisons: machines differ.
    """

    least_bytes: int
    most_bytes: int
    seconds: float


class Bounds:
    """The bounds of calls of one bundle on one backend.

    Args:
        manifest: the bundle.
        memory: the backend's memory model.
        dtype: the precision of the graphs that run.
        cpu_graphs: whether the backend runs the form of a graph that is faster on a CPU.
    """

    def __init__(
        self, manifest: Manifest, memory: MeasuredMemory, dtype: str = "float32", *, cpu_graphs: bool = False
    ) -> None:
        self._manifest, self._memory, self._dtype, self._cpu_graphs = manifest, memory, dtype, cpu_graphs

    def of(self, work: Workload, strategy: Strategy) -> Bound | None:
        """The bound of a call. None: the bundle has no formulas for it, or they do not hold on this backend."""
        factors, engine = self._memory.liveness, self._memory.reopening
        if factors is None or self._dtype != "float32" or engine.dtype != "float32" or engine.session_options:
            return None
        own = replace(work, batch=1) if strategy.sliced else work
        match strategy.kind:
            case "whole":
                found = self._whole(factors, own)
            case "tiles":
                tiles = plan_of(own, strategy)
                found = self._whole(factors, replace(own, cells=tiles.largest))
                if found is not None:
                    more = 2 * own.result_bytes(tiles.largest)
                    found = Bound(found.least_bytes, found.most_bytes + more, found.seconds * tiles.count)
            case "stream":
                found = self._stream(factors, own, strategy)
            case _:
                found = None
        if found is None:
            return None
        around = bytes_around(work, strategy) + work.caller_bytes
        seconds = found.seconds * (work.batch // own.batch)
        return Bound(found.least_bytes + around, found.most_bytes + around, seconds)

    def _whole(self, factors: LivenessBounds, work: Workload) -> Bound | None:
        graphs = [graph for graph in self._manifest.find_graphs(work.component) if graph.dtype == self._dtype]
        costs = self._costs(graphs)
        if costs is None:
            return None
        frames = work.cells[0] if work.grid.video else 1
        size = GraphSize(work.batch, frames, *work.cells[-2:])
        live = [_ITEM_BYTES * cost.live_values(size, fused=not self._memory.attention_score_copies) for cost in costs]
        fixed = self._memory.fixed_bytes(work.peak_estimate_bytes)
        weights = self._weight_bytes(graphs)
        least = factors.least * min(live) + weights
        most = max(factors.most * max(live) + fixed + factors.loaded(weights), factors.opening(weights))
        return Bound(int(least), int(most), max(_seconds(cost, size) for cost in costs))

    def _stream(self, factors: LivenessBounds, work: Workload, strategy: Strategy) -> Bound | None:
        stages = self._manifest.find_streams(work.component, self._dtype)
        costs = self._costs(stages)
        if costs is None:
            return None
        cells = work.batch * math.prod(work.cells[1:])
        frames = frames_per_step(stages, strategy.frames_per_chunk, cells, work.grid.temporal)
        steps = [StepFrames.of(graph, most, work.grid.temporal) for graph, most in zip(stages, frames, strict=True)]
        sizes = [GraphSize(work.batch, max(step.first, step.later), *work.cells[1:]) for step in steps]
        live = [
            _ITEM_BYTES * cost.live_values(size, fused=not self._memory.attention_score_copies)
            for cost, size in zip(costs, sizes, strict=True)
        ]
        weights = self._weight_bytes(stages)
        held = sum(live) if factors.each_engine_keeps else max(live)
        waiting = sum(self._waiting_bytes(graph, size) for graph, size in zip(stages, sizes, strict=True))
        fixed = self._memory.fixed_bytes(peak_estimate_bytes(stages, frames, cells))
        # Two chunks of the result: one that the last stage makes, and one that the caller still holds.
        made = 2 * self._result_bytes(stages[-1], sizes[-1], work)
        most = max(factors.most * held + waiting + made + fixed + factors.loaded(weights), factors.opening(weights))
        seconds = sum(self._stage_seconds(*one, work) for one in zip(stages, costs, sizes, strict=True))
        return Bound(weights, int(most), seconds)

    def _costs(self, graphs: Sequence[Graph]) -> list[GraphCost] | None:
        """The cost of each graph, or None if there are no graphs, or if the cost of one is not known."""
        files = ((self._cpu_graphs and graph.cpu_file) or graph.file for graph in graphs)
        found = [self._manifest.costs.get(file) for file in files]
        known = [cost for cost in found if cost is not None]
        return known if known and len(known) == len(found) else None

    def _weight_bytes(self, graphs: Sequence[Graph]) -> int:
        """The bytes of the weights file that graphs read."""
        names = {graph.weights for graph in graphs}
        return sum(file.size_bytes for file in self._manifest.files if file.name in names)

    def _waiting_bytes(self, graph: Graph, size: GraphSize) -> int:
        """The bytes of a stage's states, and of the frames that wait in front of it."""
        assert graph.stage is not None
        waiting = size.frames + max(graph.stage.lead, graph.stage.multiple)
        axes = ports.stream_axes(size.batch, (size.height, size.width), waiting)
        shapes = (
            tensor.shape_for(axes)
            for tensor in graph.inputs
            if ports.is_state(tensor.name) or tensor.name == ports.CHUNK
        )
        return _ITEM_BYTES * sum(map(math.prod, shapes))

    def _result_bytes(self, last: Graph, size: GraphSize, work: Workload) -> int:
        """The most bytes that one step of the last stage gives: at a clip's end all frames that it held back come."""
        assert last.stage is not None
        frames = (size.frames + last.stage.lead) * last.stage.ratio
        return work.result_bytes((min(work.cells[0], frames // work.grid.temporal + 2), *work.cells[1:]))

    def _stage_seconds(self, graph: Graph, cost: GraphCost, size: GraphSize, work: Workload) -> float:
        """The seconds of all steps of one stage."""
        assert graph.stage is not None
        count = max(work.size[0] / (size.frames * graph.stage.ratio), 1.0)
        return count * _seconds(cost, size)


def _seconds(cost: GraphCost, size: GraphSize) -> float:
    return cost.multiplications.at(size) / MULTIPLICATIONS_PER_SECOND + cost.written.at(size) / WRITTEN_PER_SECOND
