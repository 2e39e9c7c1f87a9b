"""What a strategy takes of a GPU's memory, computed from the records of its engines. Nothing is measured."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..backends.memory_model import RecordedMemory
from ..bundle import ports
from ..bundle.engine_records import EngineRecord
from ..bundle.graph import Graph, TensorInfo
from ..bundle.manifest import Manifest
from ..bundle.profiles import Profile, choose_profile
from ..calls.strategy import Strategy
from ..calls.workload import Workload
from ..errors import EngineError, InputError
from ..execution.stream_lengths import most_frames, step_frames
from .candidates import TileSizes
from .costs import Cost, plan_of
from .strip_costs import strip_steps
from .tuning import DEVICE_FACTOR, ENGINES_OPEN_AT_ONCE, PIXELS_SHARE

__all__ = ["DeviceCosts"]


class DeviceCosts:
    """Costs on the GPU's memory. They count weights, activations (of the largest call that an engine was built for),
    and the inputs and outputs of calls. The arrays of the caller are in the host's memory. The seconds are not known.

    Args:
        manifest: the bundle.
        memory: the backend's memory model.
        dtype: the precision of the graphs that run.
    """

    def __init__(self, manifest: Manifest, memory: RecordedMemory, dtype: str) -> None:
        self._manifest, self._memory, self._dtype = manifest, memory, dtype

    def of(self, work: Workload, strategy: Strategy, most_bytes: int | None = None) -> Cost:
        """What the strategy takes.

        Raises:
            EngineError: no engine runs it.
        """
        own = replace(work, batch=1) if strategy.sliced else work
        match strategy.kind:
            case "strips":
                held = self._strips(own, strategy)
            case "stream in strips":
                raise EngineError("what streams in strips take of a GPU's memory is not known")
            case "tiles":
                held = self._whole(replace(own, cells=plan_of(own, strategy).largest), self._memory.tiles_at_once)
            case "stream":
                held = self._stream(own, strategy, own.cells[1:], 1)
            case "stream + tiles":
                plan = plan_of(own, strategy)
                held = self._stream(own, strategy, plan.largest, plan.count)
            case _:
                held = self._whole(own, 1)
        return Cost(int(DEVICE_FACTOR * held), None, basis="recorded")

    about = of

    def tile_sizes(self, work: Workload) -> TileSizes:
        """The usual tiles, and tiles as large as engines were built for."""
        graph = next(one for one in self._manifest.find_graphs(work.component) if one.dtype == self._dtype)
        ratio = 1 if work.decodes else work.grid.spatial
        sides, frames = set[int](), set[int]()
        try:
            records = self._memory.engines(graph)
        except EngineError:  # there are engines of streams or strips alone
            records = ()
        for record in records:
            for profile in record.profiles:
                most = profile.ranges[graph.inputs[0].name].maximum
                sides.add(min(most[-2:]) // ratio * work.grid.spatial)
                if work.grid.video:
                    frames.add(most[2] if work.decodes else work.grid.latent_size((most[2], *work.size[1:]))[0])
        usual = TileSizes()
        return TileSizes(_largest_first(usual.pixels, sides), _largest_first(usual.frames, frames))

    def _whole(self, work: Workload, at_once: int) -> float:
        graph = next(one for one in self._manifest.find_graphs(work.component) if one.dtype == self._dtype)
        names = ports.whole_axes(work.batch, work.size, work.cells, work.config.noise_stacks)
        shapes = {tensor.name: tensor.shape_for(names) for tensor in graph.inputs}
        record = self._record(graph, shapes)
        inputs = sum(_bytes(tensor, shapes[tensor.name]) for tensor in graph.inputs)
        return _engine_bytes(record) + at_once * (inputs + _outputs(work, work.result_bytes()))

    def _stream(self, work: Workload, strategy: Strategy, cells: Sequence[int], count: int) -> float:
        """Streams of `count` tiles at once, each of `cells` of height and width."""
        graphs = self._manifest.find_streams(work.component, self._dtype)
        frames = strategy.frames_per_chunk or most_frames(work.component)
        weights, activations, states, between = 0, 0, 0, 0
        for graph, most in zip(graphs, step_frames(graphs, frames), strict=True):
            names = ports.stream_axes(work.batch, (cells[0], cells[1]))
            record, profile = self._stage_engine(graph, names)
            step = min(most, profile.ranges[ports.CHUNK].maximum[2])
            weights += record.bytes + record.stripped_bytes
            activations = max(activations, record.activation_bytes or 0)
            for tensor in graph.inputs:
                if ports.is_state(tensor.name):
                    states += 2 * _bytes(
                        tensor, tensor.shape_for(names)
                    )  # the states that are read, and the next states
                elif tensor.name == ports.CHUNK:
                    # Frames that wait, and frames that are put together for a step.
                    between += 2 * _bytes(tensor, tensor.shape_for(names | {ports.FRAMES: step}))
        chunk = work.batch * work.config.out_channels * frames * math.prod(cells) * work.grid.spatial**2
        made = _outputs(work, 4 * chunk) if work.decodes else 0
        return weights + activations + count * (states + between) + made

    def _strips(self, work: Workload, strategy: Strategy) -> float:
        def profiles(graph: Graph) -> tuple[Profile, ...]:
            return tuple(one for found in self._memory.engines(graph) for one in found.profiles)

        steps = strip_steps(self._manifest, work, strategy, self._dtype, profiles)
        opened, most = [], 0.0
        for step in steps:
            rows, columns = step.tiles[0]
            tile = 4 * work.batch * step.channels * (rows.stop - rows.start) * (columns.stop - columns.start)
            record = self._memory.engines(step.graph)[0]
            if step.stage.kind == "attention":
                self._require_keys(step.graph, math.prod(step.size))
            opened.append(record.bytes + record.stripped_bytes)
            around = 3 * tile * (step.stage.down / step.stage.up) ** 2 + tile
            keys = 8 * work.batch * step.channels * math.prod(step.size) if step.stage.kind == "attention" else 0
            most = max(most, sum(opened[-ENGINES_OPEN_AT_ONCE:]) + (record.activation_bytes or 0) + around + keys)
        return most

    def _require_keys(self, graph: Graph, positions: int) -> None:
        """Refuse pictures that no engine of attention was built for."""
        most = max(
            one.ranges[ports.KEYS].maximum[1] for record in self._memory.engines(graph) for one in record.profiles
        )
        if positions > most:
            raise EngineError(
                f"{graph.file} was built for pictures of at most {most} latent cells, and this one has {positions}: "
                f"build with `latentrt build --strips --picture HEIGHTxWIDTH`"
            )

    def _record(self, graph: Graph, shapes: Mapping[str, Sequence[int]]) -> EngineRecord:
        """The engine that a call of these shapes runs in."""
        built = [(profile, record) for record in self._memory.engines(graph) for profile in record.profiles]
        try:
            return built[choose_profile([profile for profile, _ in built], shapes)][1]
        except InputError as error:
            raise EngineError(str(error)) from error

    def _stage_engine(self, graph: Graph, names: Mapping[str, int]) -> tuple[EngineRecord, Profile]:
        """An engine that takes chunks of that size, and its profile of the longest ones."""
        chunk = next(tensor for tensor in graph.inputs if tensor.name == ports.CHUNK)
        found = []
        for record in self._memory.engines(graph):
            for profile in record.profiles:
                of = profile.ranges[ports.CHUNK]
                if of.holds(chunk.shape_for({**names, ports.FRAMES: of.maximum[2]})):
                    found.append((of.maximum[2], record, profile))
        if not found:
            raise EngineError(
                f"no engine of {graph.file} takes frames of {names[ports.HEIGHT]}x{names[ports.WIDTH]} latent cells: "
                f"build one with `latentrt build --stream --tile HEIGHTxWIDTH`"
            )
        _, record, profile = max(found, key=lambda one: one[0])
        return record, profile


def _largest_first(usual: Sequence[int], more: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted({*usual, *more}, reverse=True))


def _engine_bytes(record: EngineRecord) -> int:
    return record.bytes + record.stripped_bytes + (record.activation_bytes or 0)


def _outputs(work: Workload, result_bytes: float) -> float:
    """The bytes of a result on the GPU, and of its pixels if it is a decoder's result."""
    return result_bytes * (1 + PIXELS_SHARE * work.decodes)


def _bytes(tensor: TensorInfo, shape: Sequence[int]) -> int:
    return math.prod(shape) * np.dtype(tensor.dtype if tensor.dtype != "bfloat16" else "float16").itemsize
