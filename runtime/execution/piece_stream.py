"""A clip through the stages of a stream in strips: each step of a stage runs piece by piece, with the numbers of whole
frames.

A piece reads its window of the frames and of the states. The parts of its results and of its next states that do not
see the window's inner edges are kept. States and frames between the stages wait in a `FrameStore`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.boundary import check_shape, to_output
from ..backends.component import CallScope
from ..backends.sessions import Sessions
from ..bundle import ports
from ..bundle.graph import Graph, TensorInfo
from ..calls.chunks import Chunk
from ..calls.conditions import Conditions
from ..calls.stream_jobs import StreamJob
from ..system.page_memory import own_page_memory, trim_heap
from .frame_queue import refuse_rest, step_count
from .frame_store import Frames, FrameStore, GivenFrames, HeldFrames, PieceQueue
from .piece_plan import (
    PART_FOR_STEPS,
    PART_FOR_WAITING,
    StagePieces,
    Tile,
    axis_factors,
    most_units,
    plan_pieces,
    units_per_cell,
)

__all__ = ["run_pieces", "strip_chunks"]

Array = NDArray[Any]
_Held = tuple[Frames, bool]
"""Frames between two stages, and whether they are the clip's last."""


def strip_chunks(
    sessions: Sessions,
    job: StreamJob,
    scope: CallScope,
    chunks: Iterator[Chunk],
    conditions: Conditions | None,
    size: tuple[int, int, int],
    *,
    gathers: bool,
) -> Iterator[Chunk]:
    """The chunks that come out of the last stage of a stream in strips.

    Args:
        sessions: the engines.
        job: the stream.
        scope: the call.
        chunks: what goes in.
        conditions: the decoder's further inputs.
        size: the batch, and the latents' height and width.
        gathers: whether the chunks that go in are shorter than the steps of an encoder.

    Raises:
        EngineError, Cancelled, OutputError: as `run_pieces`.
    """
    settings, backend = job.strips, sessions.backend
    assert settings is not None
    budget, spatial = settings.budget_bytes, job.grid.spatial
    stages = plan_pieces(
        job.stages,
        size[1:],
        size[0],
        budget_bytes=int(PART_FOR_STEPS * budget),
        strip=None if settings.rows is None else (settings.rows // spatial, _cells(settings.columns, spatial)),
        frames_per_chunk=job.strategy.frames_per_chunk,
        item_bytes=np.dtype(job.output).itemsize,
        gathers=gathers,
        most=None
        if backend.capabilities.any_size
        else tuple(most_units(graph, backend.profiles(graph)) for graph in job.stages),
    )
    scope.peak_estimate_bytes = max(stage.step_bytes for stage in stages)
    store = FrameStore(int(PART_FOR_WAITING * budget), settings.folder, settings.storage)
    with closing(store):
        yield from run_pieces(sessions, scope, stages, store, chunks, conditions, job.output)


def _cells(pixels: int | None, spatial: int) -> int | None:
    return None if pixels is None else pixels // spatial


def run_pieces(
    sessions: Sessions,
    scope: CallScope,
    stages: Sequence[StagePieces],
    store: FrameStore,
    chunks: Iterator[Chunk],
    conditions: Conditions | None,
    output: str,
) -> Iterator[Chunk]:
    """Run chunks through the stages. The frames come as soon as they can, float32 (B, C, t, H, W), or uint8
    (B, t, H, W, C) if `output` says so.

    Raises:
        EngineError, Cancelled: see there. OutputError: the disk of the store is full.
    """
    source: Iterator[_Held] = ((GivenFrames(chunk.frames), chunk.last) for chunk in chunks)
    for pieces in stages[:-1]:
        source = _Stage(sessions, scope, pieces, store, conditions).between(source)
    yield from _Stage(sessions, scope, stages[-1], store, conditions).finished(source, output)


@dataclass(eq=False)
class _Stage:
    """One stage on its way through a clip.

    Attributes:
        states: by input, the states after the last step.
    """

    sessions: Sessions
    scope: CallScope
    pieces: StagePieces
    store: FrameStore
    conditions: Conditions | None
    states: dict[str, HeldFrames] = field(default_factory=dict)

    @property
    def graph(self) -> Graph:
        return self.pieces.graph

    def between(self, source: Iterator[_Held]) -> Iterator[_Held]:
        """The frames of this stage for the next stage."""
        for queue, count, first, last in self._steps(source):
            made: HeldFrames | None = None
            for tile, result in self._results(queue, count, first=first, last=last):
                if made is None:
                    made = self.store.make((*result.shape[:3], *self._size(self.graph.outputs[0])))
                rows, columns = self.own(self.graph.outputs[0], tile)
                made.write(slice(0, result.shape[2]), rows, columns, result)
            assert made is not None
            yield made, last

    def finished(self, source: Iterator[_Held], output: str) -> Iterator[Chunk]:
        """The frames of the clip."""
        for queue, count, first, last in self._steps(source):
            frames: Array | None = None
            for tile, result in self._results(queue, count, first=first, last=last):
                rows, columns = self.own(self.graph.outputs[0], tile)
                shape = (*result.shape[:3], *self._size(self.graph.outputs[0]))
                if output == "uint8":
                    if frames is None:
                        frames = own_page_memory((shape[0], *shape[2:], shape[1]), np.uint8)
                    to_output(np.ascontiguousarray(result), output, frames[:, :, rows, columns])
                else:
                    if frames is None:
                        frames = own_page_memory(shape)
                    frames[:, :, :, rows, columns] = result
                del result
            assert frames is not None
            trim_heap()
            yield Chunk(frames, last)
            del frames

    def _steps(self, source: Iterator[_Held]) -> Iterator[tuple[PieceQueue, int, bool, bool]]:
        """The steps: frames that wait, how many of them the step takes, and whether the step is the first or last."""
        stage, queue, first = self.graph.stage, PieceQueue(), True
        assert stage is not None
        holds_back = any(tensor.name == ports.LAST for tensor in self.graph.inputs)
        for frames, ended in source:
            queue.put(frames)
            del frames
            while count := step_count(
                queue.count,
                stage,
                self.pieces.frames,
                stage.multiple,
                first=first,
                last=ended,
                holds_back=holds_back,
                waits=True,
            ):
                last = ended and count == queue.count
                yield queue, count, first, last
                queue.drop(count)
                first = False
        if queue.count:
            refuse_rest(queue.count, stage.multiple)
        for state in self.states.values():
            state.free()
        self.states = {}

    def _results(self, queue: PieceQueue, count: int, *, first: bool, last: bool) -> Iterator[tuple[Tile, Array]]:
        """The kept part of the result of each piece of a step. The states are those of the next step afterwards."""
        component: Any = self.sessions.component(self.graph)
        options = {"in_place": True} if component.capabilities.reuses_states else {}
        wanted = {tensor.name for tensor in self.graph.inputs}
        ends = ((ports.FIRST, first), (ports.LAST, last))
        flags = {name: np.array([flag], np.int64) for name, flag in ends if name in wanted}
        tiles, pending = self.pieces.tiles, _Pending(self)
        if not self.states:
            self.states = {tensor.name: self.store.make(self._shape(tensor, queue.shape[0])) for tensor in self._states}
        for number, tile in enumerate(tiles):
            inputs = {**flags, **self._inputs(tile, queue, count, first=first)}
            pending.commit(tiles[number + 1 :])  # this piece was read, so states that only it needed may go
            with self.sessions.turn(self.scope):
                results = component.step(inputs, call=self.scope, last=last, **options)
            del inputs
            made = _on_host(results.pop(ports.RESULT))
            shape = [queue.shape[0], self.graph.outputs[0].shape[1], None]
            check_shape(made, [*shape, *self._window_size(self.graph.outputs[0], tile)], self.graph.file)  # type: ignore[list-item]
            if not last:
                pending.add(tile, {name: _on_host(value) for name, value in results.items()})
            del results
            yield tile, self.kept(self.graph.outputs[0], tile, made)
            del made
        pending.commit(())

    def _inputs(self, tile: Tile, queue: PieceQueue, count: int, *, first: bool) -> dict[str, Array]:
        inputs: dict[str, Array] = {}
        given = {} if self.conditions is None else self.conditions.inputs()
        for tensor in self.graph.inputs:
            name = tensor.name
            if name == ports.CHUNK:
                piece = queue.read(count, *self._window(tensor, tile))
                inputs[name] = piece.astype(tensor.dtype, copy=False)  # graphs of low precision may take float16
            elif ports.is_state(name):
                shape, whole = self._shape(tensor, queue.shape[0]), self.states[name].whole()
                if whole is not None and len(self.pieces.tiles) == 1 and tensor.dtype == "float32":
                    inputs[name] = whole
                    continue
                inputs[name] = own_page_memory((*shape[:3], *self._window_size(tensor, tile)), tensor.dtype)
                if not first:  # the first step does not look at them
                    self.states[name].read(slice(0, shape[2]), *self._window(tensor, tile), inputs[name])
            elif name in given:
                where = self._window(tensor, tile) if axis_factors(tensor) else ()
                inputs[name] = np.ascontiguousarray(given[name][(..., *where)])
        return inputs

    @property
    def _states(self) -> list[TensorInfo]:
        return [tensor for tensor in self.graph.inputs if ports.is_state(tensor.name)]

    def _scales(self, tensor: TensorInfo) -> tuple[int, int]:
        """Rows and columns of a tensor per unit."""
        factors, units = axis_factors(tensor), units_per_cell(self.graph)
        return factors[ports.HEIGHT][1] // units, factors[ports.WIDTH][1] // units

    def _size(self, tensor: TensorInfo) -> tuple[int, int]:
        """The rows and columns of a tensor over whole frames."""
        down, across = self._scales(tensor)
        return self.pieces.size[0] * down, self.pieces.size[1] * across

    def _shape(self, tensor: TensorInfo, batch: int) -> tuple[int, ...]:
        """Of a state over whole frames."""
        return (batch, int(tensor.shape[1]), int(tensor.shape[2]), *self._size(tensor))

    def _window(self, tensor: TensorInfo, tile: Tile) -> tuple[slice, slice]:
        down, across = self._scales(tensor)
        return _scaled(tile.rows.window, down), _scaled(tile.columns.window, across)

    def own(self, tensor: TensorInfo, tile: Tile) -> tuple[slice, slice]:
        down, across = self._scales(tensor)
        return _scaled(tile.rows.own, down), _scaled(tile.columns.own, across)

    def _window_size(self, tensor: TensorInfo, tile: Tile) -> tuple[int, int]:
        rows, columns = self._window(tensor, tile)
        return rows.stop - rows.start, columns.stop - columns.start

    def kept(self, tensor: TensorInfo, tile: Tile, made: Array) -> Array:
        """The part of a piece that does not see the window's inner edges."""
        (rows, columns), (top, left) = self.own(tensor, tile), self._window(tensor, tile)
        return made[
            ...,
            rows.start - top.start : rows.stop - top.start,
            columns.start - left.start : columns.stop - left.start,
        ]


class _Pending:
    """The next states of pieces whose neighbours still read the states before. Each is written when no later piece of
    the step reads its place."""

    def __init__(self, stage: _Stage) -> None:
        self._stage = stage
        self._waiting: list[tuple[Tile, Mapping[str, Array]]] = []

    def add(self, tile: Tile, states: Mapping[str, Array]) -> None:
        self._waiting.append((tile, states))

    def commit(self, later: Sequence[Tile]) -> None:
        """Write what none of the `later` pieces reads."""
        kept = []
        for tile, states in self._waiting:
            if any(_meet(tile, other) for other in later):
                kept.append((tile, states))
                continue
            for tensor in self._stage.graph.outputs[1:]:
                held = self._stage.states[ports.state_of_next(tensor.name)]
                if states[tensor.name] is held.whole():  # the engine wrote it in place
                    continue
                part = self._stage.kept(tensor, tile, states[tensor.name])
                held.write(slice(0, held.shape[2]), *self._stage.own(tensor, tile), part)
        self._waiting = kept


def _meet(tile: Tile, other: Tile) -> bool:
    """Whether the kept part of a piece lies in the window of another piece."""
    pairs = ((tile.rows.own, other.rows.window), (tile.columns.own, other.columns.window))
    return all(own.start < window.stop and window.start < own.stop for own, window in pairs)


def _scaled(part: slice, factor: int) -> slice:
    return slice(part.start * factor, part.stop * factor)


def _on_host(value: Any) -> Array:
    return value if isinstance(value, np.ndarray) else np.asarray(value.numpy())
