"""One streamed encode or decode as a value. An array is checked at once; the arrays of an iterator as they come."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...tiling.argument_names import argument
from ..arrays.boundary import check_output, require_finite
from ..arrays.grid import Grid
from ..arrays.pixel_range import check_pixel_range
from ..bundle.graph import Graph
from ..errors import InputError
from .cancel_token import check_token
from .chunks import Chunk, with_last
from .conditions import Conditions, conditions_for
from .jobs import Job, Jobs
from .options import StreamOptions
from .strategy import Strategy
from .strip_settings import StripSettings, require_halos
from .tiling_settings import TilingSettings

__all__ = ["StreamJob", "StreamJobs"]

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class StreamJob:
    """A checked stream.

    Attributes:
        stages: the streaming graphs, in the order in which they run.
        grid: the model's grid.
        chunks: what goes in: latents or frames, (B, C, T, H, W).
        strategy: how it runs: the most frames of a step, and tiles of height and width, if any.
        conditions_of: gives the decoder's further inputs for the first chunk's latents.
        output: "float32" or "uint8".
        out: the caller's array for the whole clip, if any.
    """

    stages: tuple[Graph, ...]
    grid: Grid
    chunks: Iterator[Chunk]
    strategy: Strategy
    conditions_of: Callable[[Any], Conditions | None] = lambda latents: None
    output: str = "float32"
    out: NDArray[Any] | None = None

    @classmethod
    def of(cls, job: Job) -> "StreamJob":
        """The stream of a job whose strategy streams."""
        chunks = iter([Chunk(job.array, last=True)])
        stages, grid, output = job.stages, job.workload.grid, job.result.output
        return cls(stages, grid, chunks, job.strategy, lambda _: job.conditions, output)

    @property
    def tiling(self) -> TilingSettings | None:
        tiling = self.strategy.tiling
        return None if isinstance(tiling, StripSettings) else tiling

    @property
    def strips(self) -> StripSettings | None:
        tiling = self.strategy.tiling
        return tiling if isinstance(tiling, StripSettings) else None


class StreamJobs:
    """Makes the streams of one opened bundle; `jobs` checks what they have in common with other calls."""

    def __init__(self, jobs: Jobs, grid: Grid) -> None:
        self._jobs, self._grid = jobs, grid

    def decode(self, z: Any, strategy: Strategy, options: StreamOptions) -> StreamJob:
        """Streaming the latents `z`, an array or an iterable of arrays; see `decode_stream`. `strategy`: as the user
        enabled it.

        Raises:
            InputError: a wrong argument. BundleError: the bundle holds no streaming graphs.
        """
        check_token(options.cancel)
        stages, config = self._jobs.stages("decoder", options.causal), self._jobs.config
        _check_frames(options.frames_per_chunk)
        check_output(options.output, None, ())
        if options.output == "device":
            raise InputError("output='device' gives one result: a stream's frames are float32 or uint8")
        if options.stream is not None:
            raise InputError("stream: frames come to the host as they are made, in no CUDA stream: leave it out")
        if options.out is not None and not _is_array(z):
            raise InputError("out: how long an iterator's clip will be is not known: give all latents as one array")
        chunks = self._checked(z, "latents", config.latent_channels)
        if options.out is not None:
            whole = next(chunks)
            batch, cells = whole.frames.shape[0], whole.frames.shape[2:]
            check_output(options.output, options.out, (batch, config.out_channels, *self._grid.sample_size(cells)))
            chunks = iter([whole])
        conditions_of = partial(conditions_for, config, temb=options.temb, rng=options.rng)
        settled = _streaming(strategy, options)
        if isinstance(settled.tiling, StripSettings):
            require_halos(stages)
        return StreamJob(stages, self._grid, chunks, settled, conditions_of, options.output, options.out)

    def encode(self, frames: Any, strategy: Strategy, options: StreamOptions) -> StreamJob:
        """Streaming a clip, an array or an iterable of arrays; see `encode_stream`. `strategy`: as the user enabled it.

        Raises:
            InputError: a wrong argument. BundleError: the bundle holds no streaming graphs.
        """
        check_token(options.cancel)
        stages = self._jobs.stages("encoder", options.causal)
        _check_frames(options.frames_per_chunk)
        if isinstance(strategy.tiling, StripSettings):
            require_halos(stages)
        chunks = self._checked(frames, "sample", self._jobs.config.in_channels)
        return StreamJob(stages, self._grid, chunks, _streaming(strategy, options))

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
        array: Array
        is_pixels = False
        if what == "sample":
            array, is_pixels = self._jobs.sample(item, device="cpu")
        else:
            array = self._jobs.array(item, what, channels, device="cpu")
        if like is not None and (array.shape[0], *array.shape[3:]) != (like[0], *like[3:]):
            raise InputError(f"{what}: all chunks of a stream have one size, got {array.shape} after {like}")
        size = (1, *array.shape[3:])  # a chunk's own number of frames does not matter
        (self._grid.check_latents if what == "latents" else self._grid.check_sample)(size)
        values = require_finite(array, what)
        if what == "sample" and not is_pixels:
            check_pixel_range(array, values, whole=False)
        return array


def _streaming(strategy: Strategy, options: StreamOptions) -> Strategy:
    return replace(strategy, streaming=True, frames_per_chunk=options.frames_per_chunk)


def _is_array(source: Any) -> bool:
    return isinstance(source, np.ndarray) or hasattr(source, "__dlpack__") or hasattr(source, "__array__")


def _check_frames(frames_per_chunk: int | None) -> None:
    if frames_per_chunk is not None and (
        isinstance(frames_per_chunk, bool) or not isinstance(frames_per_chunk, int) or frames_per_chunk < 1
    ):
        raise InputError(
            f"{argument('frames_per_chunk')}: wanted a whole number of at least 1, got {frames_per_chunk!r}"
        )
