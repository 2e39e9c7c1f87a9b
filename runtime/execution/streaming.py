"""A clip through streaming graphs: chunk after chunk, the numbers of a single pass, memory that does not grow.

Every stage remembers what its layers need of the frames before (`states`), so nothing is computed twice. The
mathematics are in docs/streaming.md.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...tiling import Plan, Span, Tile
from ...tiling.axis import trailing
from ...tiling.blend import blend_of
from ...tiling.canvas import Canvas
from ..backends.component import CallScope, stepping
from ..backends.sessions import Sessions
from ..bundle import ports
from ..bundle.graph import Graph
from ..calls.conditions import Conditions
from ..errors import InputError
from ..system.page_memory import own_page_memory
from .frame_queue import FrameQueue
from .result_shape import check_shape, expected_shape

__all__ = ["Chunk", "run_stages", "run_tiles", "with_last"]

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Frames (B, C, T, H, W), at least one, and whether they are the clip's last. Between two stages they may be what
    the backend kept; behind the last one pixels (B, T, H, W, C), where these are asked for."""

    frames: Any
    last: bool


def with_last(chunks: Iterable[Array]) -> Iterator[Chunk]:
    """Chunks with their ends known: each is held back until the next one, or the end, has come.

    Raises:
        InputError: there are no frames at all.
    """
    held = None
    for frames in chunks:
        if frames.shape[2] == 0:
            continue
        if held is not None:
            yield Chunk(held, last=False)
        held = frames
    if held is None:
        raise InputError("stream: the iterator ended without a frame; give at least one")
    yield Chunk(held, last=True)


def run_stages(
    sessions: Sessions,
    call: CallScope,
    stages: Iterable[tuple[Graph, int]],
    chunks: Iterator[Chunk],
    conditions: Conditions,
    latent_size: tuple[int, int],
    *,
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
        chunks = _stage(sessions, call, graph, most, chunks, conditions, latent_size, **options)
    yield from chunks


def run_tiles(
    plan: Plan,
    run: Callable[[Iterator[Chunk], Conditions, tuple[int, int]], Iterator[Chunk]],
    chunks: Iterator[Chunk],
    conditions: Conditions,
) -> Iterator[Chunk]:
    """Streams side by side, one for each tile of height and width, blended chunk by chunk: for frames that are too
    large to go through whole, and no longer exact. `run(chunks, conditions, latent size)` streams one tile."""
    tiles, cells = plan.tiles, tuple(line.cells for line in plan.lines)
    sources = itertools.tee(chunks, len(tiles))  # all are read in step: a chunk is held until the last tile had it
    streams = [
        run(
            _cut(source, tile),
            conditions.of_tiles([tile], cells),
            (len(tile.pieces[0].cells), len(tile.pieces[1].cells)),
        )
        for source, tile in zip(sources, tiles, strict=True)
    ]
    for part in streams[0]:
        parts = [part, *map(next, streams[1:])]  # zip would keep each chunk until its stream gives the next one
        shape = part.frames.shape
        whole = np.empty((*shape[:3], *plan.target_size), np.float32)
        canvas = Canvas(tuple(plan.groups()), partial(_rows, whole))
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
    chunks: Iterator[Chunk],
    conditions: Conditions,
    latent_size: tuple[int, int],
    *,
    between: bool,
    pixels: bool,
) -> Iterator[Chunk]:
    assert graph.stage is not None
    refusal = f"backend {sessions.backend.label} runs no streaming graphs: take onnxruntime"
    component = stepping(sessions.component(graph), refusal)
    can = component.capabilities
    options: dict[str, Any] = {"keep_result": True} if between and can.keeps_results else {}
    options |= {"in_place": True} if can.reuses_states else {}
    options |= {"pixels": True} if pixels and can.pixels else {}
    wanted = {tensor.name for tensor in graph.inputs}
    extras = {name: array for name, array in conditions.inputs().items() if name in wanted}
    states: dict[str, Any] = {}
    queue, first = FrameQueue(), True
    for chunk in chunks:
        queue.put(chunk.frames)
        batch = chunk.frames.shape[0]
        if not states:
            states = _initial_states(graph, batch, latent_size)
        ended = chunk.last
        del chunk  # the queue holds what is left of it
        while count := _next_count(len(queue), graph, most, first=first, last=ended):
            last = ended and count == len(queue)
            told = ((ports.FIRST, first), (ports.LAST, last))
            flags = {name: np.array([flag], np.int64) for name, flag in told if name in wanted}
            with sessions.turn(call):
                results = component.step(
                    {ports.CHUNK: queue.take(count), **flags, **extras, **states}, call=call, last=last, **options
                )
            first = False
            frames = results.pop(ports.RESULT)
            if isinstance(frames, np.ndarray):
                check_shape(frames, _result_shape(graph, batch, latent_size, pixels="pixels" in options), graph.file)
            states = {ports.state_of_next(name): value for name, value in results.items()}
            yield Chunk(frames, last)
            del frames, results
    if len(queue):
        raise InputError(
            f"stream: {len(queue)} frames are left at the end; a clip has 1 + a multiple of {graph.stage.multiple}"
        )


def _next_count(waiting: int, graph: Graph, most: int, *, first: bool, last: bool) -> int:
    """How many of the frames that wait the next step takes; 0: it waits for more. The clip's end gets a step of its
    own, as short as can be, where all frames that were held back come out with it."""
    assert graph.stage is not None
    multiple = graph.stage.multiple
    begin = int(first and multiple > 1)  # chunks of 1 + a multiple, then of multiples
    least = max(graph.stage.lead, begin + multiple) if first else multiple
    if waiting < least and not last:
        return 0
    count = min(waiting, max(most, least))
    if last and count == waiting > least and _holds_back(graph):
        count -= multiple
    return begin + (count - begin) // multiple * multiple if waiting else 0


def _holds_back(graph: Graph) -> bool:
    """Whether a stage looks ahead, so that it gives more frames at the clip's end than it takes."""
    return any(tensor.name == ports.LAST for tensor in graph.inputs)


def _initial_states(graph: Graph, batch: int, latent_size: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """Zeros, which the first chunk does not look at."""
    sizes = ports.stream_axes(batch, latent_size)
    states = (tensor for tensor in graph.inputs if ports.is_state(tensor.name))
    return {tensor.name: own_page_memory(tensor.shape_for(sizes), tensor.dtype) for tensor in states}


def _result_shape(graph: Graph, batch: int, latent_size: tuple[int, int], *, pixels: bool) -> tuple[int | None, ...]:
    """The shape of a step's result, with any number of frames; of `pixels` (B, T, H, W, C)."""
    (result,) = (tensor for tensor in graph.outputs if tensor.name == ports.RESULT)
    shape = expected_shape(result, ports.stream_axes(batch, latent_size))
    return (shape[0], *shape[2:], shape[1]) if pixels else shape
