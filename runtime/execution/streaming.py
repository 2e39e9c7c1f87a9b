"""A clip through streaming graphs: chunk after chunk, the numbers of a single pass, memory that does not grow.

Every stage remembers what its layers need of the frames before (`states`), so nothing is computed twice. The
mathematics are in docs/streaming.md.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...tiling import Plan, Span, Tile
from ...tiling.axis import trailing
from ...tiling.blend import blend_of
from ...tiling.canvas import Canvas
from ..arrays.boundary import check_shape
from ..backends.component import CallScope
from ..backends.sessions import Sessions
from ..bundle import ports
from ..bundle.graph import Graph, TensorInfo
from ..calls.chunks import Chunk
from ..calls.conditions import Conditions
from ..system.page_memory import own_page_memory
from .frame_queue import FrameQueue, refuse_rest, step_count
from .stream_lengths import step_multiple

__all__ = ["expected_shape", "run_stages", "run_tiles"]

Array = NDArray[np.float32]
_KEPT_SHAPES = 64  # of stages: streams often have the size of an earlier one


def run_stages(
    sessions: Sessions,
    call: CallScope,
    stages: Iterable[tuple[Graph, int]],
    chunks: Iterator[Chunk],
    conditions: Conditions | None,
    latent_size: tuple[int, int],
    *,
    temporal_ratio: int,
    pixels: bool = False,
) -> Iterator[Chunk]:
    """Run chunks through stage after stage; each of `stages` with the most frames of one of its steps (a first chunk
    takes more where nothing would come out of it otherwise). Frames come as soon as they can: what one stage gives,
    the next one works on before the first one goes on. `pixels`: as uint8, where the last stage makes these itself.

    Raises:
        EngineError, Cancelled: see there.
    """
    every = tuple(stages)
    for number, (graph, most) in enumerate(every, 1):
        between = number < len(every)
        options = {"between": between, "pixels": pixels and not between}
        multiple = step_multiple(graph, temporal_ratio)
        chunks = _stage(sessions, call, graph, most, multiple, chunks, conditions, latent_size, **options)
    yield from chunks


def run_tiles(
    plan: Plan,
    run: Callable[[Iterator[Chunk], Conditions | None, tuple[int, int]], Iterator[Chunk]],
    chunks: Iterator[Chunk],
    conditions: Conditions | None,
) -> Iterator[Chunk]:
    """Streams side by side, one for each tile of height and width, blended chunk by chunk: for frames that are too
    large to go through whole, and no longer exact. `run(chunks, conditions, latent size)` streams one tile."""
    tiles, cells = plan.tiles, tuple(line.cells for line in plan.lines)
    sources = itertools.tee(chunks, len(tiles))  # all are read in step: a chunk is held until the last tile had it
    streams = [
        run(
            _cut(source, tile),
            None if conditions is None else conditions.of_tiles([tile], cells),
            (len(tile.pieces[0].cells), len(tile.pieces[1].cells)),
        )
        for source, tile in zip(sources, tiles, strict=True)
    ]
    for part in streams[0]:
        parts = [part, *map(next, streams[1:])]  # zip would keep each chunk until its stream gives the next one
        shape = part.frames.shape
        whole = np.empty((*shape[:3], *plan.target_size), np.float32)
        canvas = Canvas(plan.groups, partial(_rows, whole))
        blend = blend_of(plan, canvas)
        for tile, part in zip(tiles, parts, strict=True):
            blend.put(tile, part.frames)
        last = parts[0].last
        del parts, part
        yield Chunk(whole, last)
        del whole, canvas, blend


def _cut(chunks: Iterator[Chunk], tile: Tile) -> Iterator[Chunk]:
    for chunk in chunks:
        yield Chunk(chunk.frames[trailing(tile.source)], chunk.last)


def _rows(whole: Array, span: Span) -> Array:
    return whole[..., span.as_slice(), :]


def _stage(
    sessions: Sessions,
    call: CallScope,
    graph: Graph,
    most: int,
    multiple: int,
    chunks: Iterator[Chunk],
    conditions: Conditions | None,
    latent_size: tuple[int, int],
    *,
    between: bool,
    pixels: bool,
) -> Iterator[Chunk]:
    assert graph.stage is not None
    component: Any = sessions.component(graph)
    can = component.capabilities
    options: dict[str, Any] = {"keep_result": True} if between and can.keeps_results else {}
    options |= {"in_place": True} if can.reuses_states else {}
    options |= {"pixels": True} if pixels and can.pixels else {}
    wanted = {tensor.name for tensor in graph.inputs}
    given = {} if conditions is None else conditions.inputs()
    extras = {name: array for name, array in given.items() if name in wanted}
    states: dict[str, Any] = {}
    queue, first = FrameQueue(), True
    for chunk in chunks:
        queue.put(chunk.frames)
        shapes = _shapes(graph, chunk.frames.shape[0], latent_size, pixels="pixels" in options)
        if not states:  # zeros, which the first chunk does not look at
            states = {name: own_page_memory(shape, dtype) for name, shape, dtype in shapes.states}
        ended = chunk.last
        del chunk  # the queue holds what is left of it
        while count := step_count(
            queue.count, graph.stage, most, multiple, first=first, last=ended, holds_back=shapes.holds_back
        ):
            last = ended and count == queue.count
            ends = ((ports.FIRST, first), (ports.LAST, last))
            flags = {name: np.array([flag], np.int64) for name, flag in ends if name in wanted}
            with sessions.turn(call):
                results = component.step(
                    {ports.CHUNK: queue.take(count), **flags, **extras, **states}, call=call, last=last, **options
                )
            first = False
            frames = results.pop(ports.RESULT)
            if isinstance(frames, np.ndarray):
                check_shape(frames, shapes.result, graph.file)
            states = {shapes.state_names[name]: value for name, value in results.items()}
            yield Chunk(frames, last)
            del frames, results
    if queue.count:
        refuse_rest(queue.count, multiple)


@dataclass(frozen=True)
class _Shapes:
    """What a stage takes and gives for one size.

    Attributes:
        states: name, shape and dtype of each state.
        state_names: by output, the name of the state that the next step takes it as.
        result: the shape of a step's result, with any number of frames.
        holds_back: whether the stage looks ahead, so that it gives more frames at the clip's end than it takes.
    """

    states: tuple[tuple[str, tuple[int, ...], str], ...]
    state_names: Mapping[str, str]
    result: tuple[int | None, ...]
    holds_back: bool


@lru_cache(_KEPT_SHAPES)
def _shapes(graph: Graph, batch: int, latent_size: tuple[int, int], *, pixels: bool) -> _Shapes:
    """Of a stage whose result is `pixels`, (B, T, H, W, C), or (B, C, T, H, W)."""
    sizes = ports.stream_axes(batch, latent_size)
    states = (tensor for tensor in graph.inputs if ports.is_state(tensor.name))
    (result,) = (tensor for tensor in graph.outputs if tensor.name == ports.RESULT)
    shape = expected_shape(result, sizes)
    return _Shapes(
        tuple((tensor.name, tensor.shape_for(sizes), tensor.dtype) for tensor in states),
        {tensor.name: ports.state_of_next(tensor.name) for tensor in graph.outputs if tensor.name != ports.RESULT},
        (shape[0], *shape[2:], shape[1]) if pixels else shape,
        any(tensor.name == ports.LAST for tensor in graph.inputs),
    )


def expected_shape(tensor: TensorInfo, sizes: Mapping[str, int]) -> tuple[int | None, ...]:
    """The lengths of a graph's output where the axes named in `sizes` have these lengths; None for other axes."""

    def length(axis: int | str) -> int | None:
        if isinstance(axis, int):
            return axis
        factor, _, name = axis.rpartition("*")
        return int(factor or 1) * sizes[name] if name in sizes else None

    return tuple(length(axis) for axis in tensor.shape)
