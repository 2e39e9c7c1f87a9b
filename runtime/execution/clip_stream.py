"""Streaming one autoencoder's clips: which graphs, in which chunks, and what comes in and goes out."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...tiling import Line, Plan, Span
from ...tiling.plan import Direction
from ..arrays.boundary import check_output, require_finite, to_output
from ..arrays.grid import Grid
from ..backends.sessions import Sessions
from ..bundle.graph import Graph
from ..bundle.manifest import Manifest
from ..calls.cancel_token import CancelToken, check_token
from ..calls.conditions import Conditions
from ..calls.jobs import Job, Jobs
from ..calls.tiling_settings import TilingSettings
from ..config.model_config import ModelConfig
from ..errors import BundleError, EngineError, InputError
from ..system.page_memory import trim_heap
from .execution import allocated
from .stream_lengths import frames_within, most_frames, peak_estimate_bytes, step_frames, values_per_cell
from .streaming import Chunk, run_stages, run_tiles, with_last

__all__ = ["ClipStream"]

Array = NDArray[np.float32]
_LIVE_TENSORS = 6  # of a stage's widest layer, at a time
_CHUNK_BYTES = 1 << 28


class ClipStream:
    """Runs clips through the streaming graphs of a bundle; in tiles of height and width where `tiling()` gives any."""

    def __init__(
        self,
        manifest: Manifest,
        sessions: Sessions,
        jobs: Jobs,
        grid: Grid,
        dtype: str,
        tiling: Callable[[], TilingSettings | None],
    ) -> None:
        self._manifest, self._sessions, self._jobs, self._grid, self._dtype = manifest, sessions, jobs, grid, dtype
        self._tiling = tiling

    def stages(self, component: str, causal: bool | None) -> tuple[Graph, ...]:
        """The component's streaming graphs, in the order in which they run.

        Raises:
            InputError: a causality that cannot stream. BundleError: the bundle holds no such graphs.
        """
        own = self._config.causal(component)
        if component == "encoder" and not own:
            raise InputError("stream: this encoder is not causal, it looks ahead to the clip's end; encode it whole")
        if causal is not None and causal != own:
            raise InputError(f"stream: the streaming graphs are causal={own}, as the config is, got causal={causal}")
        found = self._manifest.find_streams(component, self._dtype)
        if not found:
            raise BundleError(
                f"{self._manifest.folder} holds no {self._dtype} streaming graphs of its {component}: export it again "
                f"with --dtype {self._dtype} --stream"
            )
        return found

    def decode(
        self,
        z: Any,
        conditions_of: Callable[[Array], Conditions],
        *,
        frames_per_chunk: int | None,
        output: str,
        out: NDArray[Any] | None,
        stream: int | None,
        causal: bool | None,
        cancel: CancelToken | None = None,
    ) -> Iterator[Any]:
        """Frames of the latents `z`, an array or an iterable of arrays; see `decode_stream`."""
        check_token(cancel)
        graphs = self.stages("decoder", causal)
        _check_frames(frames_per_chunk)
        check_output(output, None, ())
        if output == "device":
            raise InputError("output='device' gives one result: a stream's frames are float32 or uint8")
        if stream is not None:
            raise InputError("stream: frames come to the host as they are made, in no CUDA stream: leave it out")
        if out is not None and not _is_array(z):
            raise InputError("out: how long an iterator's clip will be is not known: give all latents as one array")
        chunks = self._checked(z, "latents", self._config.latent_channels)
        if out is not None:
            whole = next(chunks)
            batch, cells = whole.frames.shape[0], whole.frames.shape[2:]
            check_output(output, out, (batch, self._config.out_channels, *self._grid.sample_size(cells)))
            chunks = iter([whole])
            del whole

        def run() -> Iterator[Any]:
            left = out
            options: dict[str, Any] = {"pixels": output == "uint8", "cancel": cancel}
            for chunk in self._run(graphs, chunks, conditions_of, frames_per_chunk, **options):
                yield from _split(chunk.frames, frames_per_chunk, output, left)
                if left is not None:
                    made = chunk.frames.shape[_time_axis(chunk.frames)]
                    left = left[_behind(_time_axis(left), slice(made, None))]
                del chunk  # not held while the next one is made

        return run()

    def encode(
        self, frames: Any, *, frames_per_chunk: int | None, causal: bool | None, cancel: CancelToken | None = None
    ) -> Iterator[Array]:
        """Moments of a clip, an array or an iterable of arrays; see `encode_stream`."""
        check_token(cancel)
        graphs = self.stages("encoder", causal)
        _check_frames(frames_per_chunk)
        chunks = self._checked(frames, "sample", self._config.in_channels)

        def run() -> Iterator[Array]:
            for chunk in self._run(graphs, chunks, lambda _: Conditions(), frames_per_chunk, cancel=cancel):
                yield chunk.frames
                del chunk

        return run()

    def job_frames(self, job: Job, frames_per_chunk: int | None, output: str) -> Iterator[Any]:
        """What a checked job gives, cropped, as its frames come: float32 (B, C, t, ...) or uint8."""
        graphs = self.stages(job.graph.component, job.graph.causal)
        source = iter([Chunk(job.array, last=True)])
        left = job.size[0]
        pixels = output == "uint8"
        options: dict[str, Any] = {"pixels": pixels, "specialise": job.specialise, "cancel": job.cancel}
        for chunk in self._run(graphs, source, lambda _: job.conditions, frames_per_chunk, **options):
            axis = _time_axis(chunk.frames)
            frames = chunk.frames[_behind(axis, *map(slice, (left, *job.size[1:])))]
            del chunk
            left -= frames.shape[axis]
            job.progress(job.size[0] - left, job.size[0])
            if frames.shape[axis]:
                yield from _split(frames, frames_per_chunk, output)
            del frames

    def job(self, job: Job, frames_per_chunk: int | None, output: str, out: NDArray[Any] | None) -> Any:
        """What a checked job gives, put together.

        Raises:
            InputError: `output` or `out` does not fit the job.
        """
        check_output(output, out, job.wanted_shape)
        if output == "device":
            raise InputError("output='device' gives the engine's own result: not with streaming")
        target = allocated(job, output) if out is None else out
        done = 0
        for frames in self.job_frames(job, frames_per_chunk, output):
            if output == "uint8":
                target[:, done : done + frames.shape[1]] = frames
                done += frames.shape[1]
            else:
                target[:, :, done : done + frames.shape[2]] = frames
                done += frames.shape[2]
        if done != job.size[0]:
            raise EngineError(f"{job.graph.file}: the stream gave {done} frames of {job.size[0]}: run the call again")
        return target

    @property
    def _config(self) -> ModelConfig:
        return self._manifest.config

    def _run(
        self,
        graphs: tuple[Graph, ...],
        chunks: Iterator[Chunk],
        conditions_of: Callable[[Array], Conditions],
        frames_per_chunk: int | None,
        *,
        pixels: bool = False,
        specialise: bool | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[Chunk]:
        """`pixels`: chunks as uint8, where the engine makes them; tiles are blended in float32."""
        encode = graphs[0].component == "encoder"
        with self._sessions.call(specialise, token=cancel) as call:
            begin = next(chunks)
            conditions = conditions_of(begin.frames)
            batch, (height, width) = begin.frames.shape[0], begin.frames.shape[-2:]
            size = (height // self._grid.spatial, width // self._grid.spatial) if encode else (height, width)
            plan = self._plan("encode" if encode else "decode", size)
            tiles = {(len(tile.pieces[0].cells), len(tile.pieces[1].cells)) for tile in plan.tiles}
            one = max(rows * columns for rows, columns in tiles)
            frames = frames_per_chunk or self._default_frames(graphs, batch * one)
            most = step_frames(graphs, frames)
            backend = self._sessions.backend
            if not backend.capabilities.any_size:
                most = [
                    frames_within(graph, backend.profiles(graph), own, batch, tiles)
                    for graph, own in zip(graphs, most, strict=True)
                ]

            call.peak_estimate_bytes = peak_estimate_bytes(graphs, most, batch * one)
            made = pixels and plan.count == 1

            def run(source: Iterator[Chunk], own: Conditions, cells: tuple[int, int]) -> Iterator[Chunk]:
                stages = zip(graphs, most, strict=True)
                return run_stages(self._sessions, call, stages, source, own, cells, pixels=made)

            source = _chain(begin, chunks)
            del begin
            streams = run(source, conditions, size) if plan.count == 1 else run_tiles(plan, run, source, conditions)
            for chunk in streams:
                trim_heap()
                yield chunk
                del chunk

    def _plan(self, direction: Direction, size: tuple[int, int]) -> Plan:
        """The tiles in height and width: one, unless tiling is enabled."""
        tiling = self._tiling()
        if tiling is not None:
            plan = tiling.plan(self._grid, direction, (1, *size))
            return replace(plan, lines=plan.lines[1:])
        axes = self._grid.axes_for(direction)[1:]
        spans = [[Span(0, length)] for length in size]
        return Plan(tuple(Line.of(*of, direction=direction) for of in zip(axes, size, spans, strict=True)))

    def _default_frames(self, graphs: tuple[Graph, ...], cells: int) -> int:
        """As many frames of the clip as keep the widest layers within 256 MiB: at least one latent frame's."""
        widest = max(map(values_per_cell, graphs))
        frames = _CHUNK_BYTES // max(1, _LIVE_TENSORS * 4 * widest * cells)
        return int(min(max(frames, self._grid.temporal), most_frames(graphs[0].component)))

    def _checked(self, source: Any, what: str, channels: int) -> Iterator[Chunk]:
        """The source's arrays, checked as they come; an array at once."""
        if _is_array(source):
            array = self._array(source, what, channels, None)
            if array.shape[2] == 0:
                raise InputError(f"{what}: the clip has no frames, got shape {array.shape}")
            return iter([Chunk(array, last=True)])
        if not isinstance(source, Iterable):
            raise InputError(f"{what}: wanted an array, or an iterable of arrays, got {type(source).__name__}")
        return with_last(self._arrays(source, what, channels))

    def _arrays(self, source: Iterable[Any], what: str, channels: int) -> Iterator[Array]:
        like = None
        for item in source:
            array = self._array(item, what, channels, like)
            like = array.shape
            yield array

    def _array(self, item: Any, what: str, channels: int, like: tuple[int, ...] | None) -> Array:
        array: Array = self._jobs.array(item, what, channels, device="cpu")
        if like is not None and (array.shape[0], *array.shape[3:]) != (like[0], *like[3:]):
            raise InputError(f"{what}: all chunks of a stream have one size, got {array.shape} after {like}")
        size = (1, *array.shape[3:])  # a chunk's own number of frames does not matter
        (self._grid.check_latents if what == "latents" else self._grid.check_sample)(size)
        require_finite(array, what)
        return array


def _chain(begin: Chunk, rest: Iterator[Chunk]) -> Iterator[Chunk]:
    yield begin
    del begin
    yield from rest


def _split(frames: NDArray[Any], most: int | None, output: str, out: NDArray[Any] | None = None) -> Iterator[Any]:
    """At most that many frames at a time, in the form that is asked for; they may be pixels already. `out`: where they
    go, from its first frame on; then what is given are views of it."""
    axis = _time_axis(frames)
    step = most or frames.shape[axis]
    for start in range(0, frames.shape[axis], step):
        stop = min(start + step, frames.shape[axis])
        part = frames[_behind(axis, slice(start, stop))]
        if out is not None:
            yield to_output(part, output, out[_behind(_time_axis(out), slice(start, stop))])
        else:
            yield to_output(np.ascontiguousarray(part) if frames.dtype == output else part, output, None)


def _is_array(source: Any) -> bool:
    return isinstance(source, np.ndarray) or hasattr(source, "__dlpack__")


def _time_axis(frames: NDArray[Any]) -> int:
    """Of frames (B, C, T, H, W), or pixels (B, T, H, W, C)."""
    return 1 if frames.dtype == np.uint8 else 2


def _behind(axis: int, *slices: slice) -> tuple[slice, ...]:
    """Slices of the axes from `axis` on, behind the others."""
    return (*[slice(None)] * axis, *slices)


def _check_frames(frames_per_chunk: int | None) -> None:
    if frames_per_chunk is not None and (
        isinstance(frames_per_chunk, bool) or not isinstance(frames_per_chunk, int) or frames_per_chunk < 1
    ):
        raise InputError(f"frames_per_chunk: wanted a whole number of at least 1, got {frames_per_chunk!r}")
