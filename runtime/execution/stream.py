"""Running a clip as a stream: the chunks that go in, and the frames that come out."""

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.boundary import to_output
from ..backends.component import CallScope
from ..backends.sessions import EngineSets, Sessions
from ..calls.chunks import Chunk
from ..calls.conditions import Conditions
from ..calls.jobs import Job
from ..calls.stream_jobs import StreamJob
from ..calls.tiling_settings import stream_tiles
from ..errors import EngineError, InputError
from ..system.page_memory import trim_heap
from .run import sessions_for
from .stream_lengths import frames_per_step, frames_within, most_frames, peak_estimate_bytes
from .streaming import run_stages, run_tiles

__all__ = ["run_stream", "stream_frames", "stream_pieces"]


def stream_pieces(engines: EngineSets, job: StreamJob, scope: CallScope) -> Iterator[NDArray[Any]]:
    """What a `decode_stream` or an `encode_stream` gives, one array after the other.

    Raises:
        EngineError, Cancelled: see there.
    """
    left, most = job.out, job.strategy.frames_per_chunk if job.stages[0].component == "decoder" else None
    sessions = sessions_for(engines, job.strategy, None, scope, "stream", job.stages[0])
    for chunk in _chunks(sessions, job, scope):
        yield from _split(chunk.frames, most, job.output, left)
        if left is not None:
            made = chunk.frames.shape[_time_axis(chunk.frames)]
            left = left[_behind(_time_axis(left), slice(made, None))]
        del chunk  # not held while the next one is made


def run_stream(sessions: Sessions, job: Job, scope: CallScope) -> Any:
    """The whole result of a job whose strategy streams.

    Raises:
        EngineError, Cancelled: see there.
    """
    result, done = job.result.allocated(), 0
    for frames in stream_frames(sessions, job, scope):
        result.put(frames, done)
        done += frames.shape[_time_axis(frames)]
    if done != job.result.size[0]:
        raise EngineError(
            f"{job.graph.file}: the stream gave {done} frames of {job.result.size[0]}: run the call again"
        )
    return result.out


def stream_frames(sessions: Sessions, job: Job, scope: CallScope) -> Iterator[NDArray[Any]]:
    """The result of a job, cropped, as its frames come: float32 (B, C, t, ...), or uint8 (B, t, ..., C)."""
    size, left = job.result.size, job.result.size[0]
    for chunk in _chunks(sessions, StreamJob.of(job), scope):
        axis = _time_axis(chunk.frames)
        frames = chunk.frames[_behind(axis, *map(slice, (left, *size[1:])))]
        del chunk
        left -= frames.shape[axis]
        job.progress(size[0] - left, size[0])
        if frames.shape[axis]:
            yield from _split(frames, job.strategy.frames_per_chunk, job.result.output)
        del frames


def _chunks(sessions: Sessions, job: StreamJob, scope: CallScope) -> Iterator[Chunk]:
    """The chunks that come out of the last stage: uint8 if the engine makes pixels and there are no tiles."""
    stages = job.stages
    direction = "encode" if stages[0].component == "encoder" else "decode"
    begin = next(job.chunks)
    conditions = job.conditions_of(begin.frames)
    batch, (height, width) = begin.frames.shape[0], begin.frames.shape[-2:]
    size = (height // job.grid.spatial, width // job.grid.spatial) if direction == "encode" else (height, width)
    source = _chain(begin, job.chunks)
    if direction == "encode":
        source = _on_grid(source, job.grid.temporal)
    if job.strips is not None:
        from .piece_stream import strip_chunks  # here: other streams do not pay for it

        gathers = not begin.last and begin.frames.shape[2] < most_frames(stages[0].component)
        del begin
        yield from strip_chunks(sessions, job, scope, source, conditions, (batch, *size), gathers=gathers)
        return
    plan = stream_tiles(job.tiling, job.grid, direction, size)
    cells = batch * prod(plan.largest)
    most = frames_per_step(stages, job.strategy.frames_per_chunk, cells, job.grid.temporal)
    backend = sessions.backend
    if not backend.capabilities.any_size:
        tiles = {(len(tile.pieces[0].cells), len(tile.pieces[1].cells)) for tile in plan.tiles}
        most = tuple(
            frames_within(graph, backend.profiles(graph), own, batch, tiles)
            for graph, own in zip(stages, most, strict=True)
        )
    scope.peak_estimate_bytes = peak_estimate_bytes(stages, most, cells)
    made = job.output == "uint8" and plan.count == 1  # tiles are blended in float32

    def run(source: Iterator[Chunk], own: Conditions | None, latent_size: tuple[int, int]) -> Iterator[Chunk]:
        parts, temporal = zip(stages, most, strict=True), job.grid.temporal
        return run_stages(sessions, scope, parts, source, own, latent_size, temporal_ratio=temporal, pixels=made)

    del begin
    streams = run(source, conditions, size) if plan.count == 1 else run_tiles(plan, run, source, conditions)
    for chunk in streams:
        trim_heap()
        yield chunk
        del chunk


def _chain(begin: Chunk, rest: Iterator[Chunk]) -> Iterator[Chunk]:
    yield begin
    del begin
    yield from rest


def _on_grid(chunks: Iterator[Chunk], ratio: int) -> Iterator[Chunk]:
    """The chunks of a clip, whose number of frames is known with the last chunk.

    Raises:
        InputError: the number is off the grid.
    """
    count = 0
    for chunk in chunks:
        count += chunk.frames.shape[2]
        if chunk.last and (count - 1) % ratio:
            raise InputError(
                f"stream: {(count - 1) % ratio} frames are left at the end; a clip has 1 + a multiple of {ratio}"
            )
        yield chunk
        del chunk


def _split(frames: NDArray[Any], most: int | None, output: str, out: NDArray[Any] | None = None) -> Iterator[Any]:
    """At most `most` frames at a time, in the form `output`; they may be pixels already. `out`: where they go, from its
    first frame on; then the arrays that come are views of it."""
    axis = _time_axis(frames)
    step = most or frames.shape[axis]
    for start in range(0, frames.shape[axis], step):
        stop = min(start + step, frames.shape[axis])
        part = frames[_behind(axis, slice(start, stop))]
        if out is not None:
            yield to_output(part, output, out[_behind(_time_axis(out), slice(start, stop))])
        else:
            yield to_output(np.ascontiguousarray(part) if frames.dtype == output else part, output, None)


def _time_axis(frames: NDArray[Any]) -> int:
    """The index of the time axis: of frames (B, C, T, H, W), or of pixels (B, T, H, W, C)."""
    return 1 if frames.dtype == np.uint8 else 2


def _behind(axis: int, *slices: slice) -> tuple[slice, ...]:
    """Slices of the axes from `axis` on, behind the others."""
    return (*[slice(None)] * axis, *slices)
