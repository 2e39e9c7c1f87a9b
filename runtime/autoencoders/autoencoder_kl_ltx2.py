"""The LTX-2 video VAE at run time: frames, streams and clips, in addition to the calls of all families."""

from __future__ import annotations  # or every annotation of a generator would import numpy.random

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...tiling.argument_names import argument
from ...tiling.public_place import shown_in
from ..arrays.kinds import OutputKind
from ..arrays.outputs import latents_of
from ..arrays.padded_latents import cut_chunks, size_before_padding
from ..arrays.ran import Ran
from ..calls.blends import VideoBlend
from ..calls.options import DecodeOptions, StreamOptions
from ..calls.strip_settings import StripSettings, exact_strips
from ..calls.tiling_arguments import video_tiling
from ..calls.tiling_settings import stream_tiles
from ..calls.workload import Workload
from ..config.ltx2 import AutoencoderKLLTX2VideoConfig
from ..errors import InputError
from .autoencoder import Autoencoder

if TYPE_CHECKING:
    from ..backends.sessions import EngineSets
    from ..calls.cancel_token import CancelToken
    from ..calls.options import Progress
    from ..calls.strategy import Strategy
    from ..calls.stream_jobs import StreamJob
    from .clip_calls import ClipCalls

__all__ = ["AutoencoderKLLTX2Video"]


@shown_in("latentrt.runtime")
class AutoencoderKLLTX2Video(Autoencoder):
    """LTX-2.0, 2.3 and 2.5 (convolutional decoder). Arrays are (B, C, T, H, W).

    Timestep-conditioned decoders take `temb`, (B,) timesteps; decoders that inject noise take `rng`.
    """

    family = AutoencoderKLLTX2VideoConfig.family
    _may_stream = True

    def enable_tiling(
        self,
        tile_sample_min_height: int | None = None,
        tile_sample_min_width: int | None = None,
        tile_sample_min_num_frames: int | None = None,
        tile_sample_stride_height: int | None = None,
        tile_sample_stride_width: int | None = None,
        tile_sample_stride_num_frames: int | None = None,
        *,
        blend: VideoBlend = "linear",
        framewise: bool | None = None,
        compat_shift: bool = False,
        tiles_per_call: int = 1,
        exact: bool = False,
        strip: int | Sequence[int] | None = None,
        memory_bytes: int | None = None,
        folder: str | os.PathLike[str] | None = None,
        storage: str = "float32",
    ) -> None:
        """Encode and decode in overlapping tiles from now on; a second call replaces the settings.

        Sizes and strides are in pixels (multiples of the spatial ratio) and frames (N frames are N // 8 + 1 latent
        frames and a stride of S frames S // 8, as in diffusers); what is left out takes the blend's default. `blend`:

        - "linear": tiles space and time; every tile has one shape; the weights of all tiles sum to one everywhere.
        - "diffusers": diffusers' numbers and its defaults, in space only. `framewise=True` adds its temporal tiling
          (`use_framewise_decoding`), with frames that line up; `compat_shift=True` also the frame by which its
          later tiles are late.
        - "ltx2": the tiles and masks of the LTX-2 repository, with its defaults (768 pixels, 80 frames).

        `tiles_per_call`: the most tiles that run as one batch.

        `exact`: strips with the numbers of a single pass for frames of any size, instead of overlapping tiles. A clip
        in strips is a stream, whether or not streaming is enabled. `strip`, `memory_bytes`, `folder` and `storage` are
        those of `AutoencoderKL.enable_tiling`; what waits are the states of the stream and the frames between its
        stages.

        Raises:
            InputError: an illegal value; the message names the nearest legal ones.
        """
        if exact:
            sizes = (tile_sample_min_height, tile_sample_min_width, tile_sample_min_num_frames)
            strides = (tile_sample_stride_height, tile_sample_stride_width, tile_sample_stride_num_frames)
            others = (*sizes, *strides, framewise)
            if blend != "linear" or tiles_per_call != 1 or compat_shift or any(value is not None for value in others):
                raise InputError(
                    "enable_tiling: exact=True takes strip, memory_bytes, folder and storage, no tiles and no blend"
                )
            self._tile(exact_strips(self.grid, strip, memory_bytes, folder, storage))
            return
        if any(value is not None for value in (strip, memory_bytes, folder)) or storage != "float32":
            raise InputError("enable_tiling: strip, memory_bytes, folder and storage are for exact=True")
        settings = video_tiling(
            self.grid,
            blend=blend,
            sizes=(tile_sample_min_num_frames, tile_sample_min_height, tile_sample_min_width),
            strides=(tile_sample_stride_num_frames, tile_sample_stride_height, tile_sample_stride_width),
            framewise=framewise,
            compat_shift=compat_shift,
            tiles_per_call=tiles_per_call,
        )
        self._tile(settings)

    @property
    def clip_calls(self) -> ClipCalls:
        """This autoencoder."""
        return self

    def decode_frames(
        self,
        z: Any,
        *,
        crop: Sequence[int] | None = None,
        output: OutputKind = "float32",
        causal: bool | None = None,
        temb: Any = None,
        rng: np.random.Generator | int | None = None,
        memory: int | str | None = None,
        exact: bool = False,
        caller_bytes: int = 0,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        on_ran: Callable[[Ran], None] | None = None,
    ) -> Iterator[Any]:
        """Decode, and give the frames as they are finished: float32 (B, C, t, H, W), or with `output="uint8"`
        (B, t, H, W, C), one array after the other, each the caller's own.

        With streaming enabled they come as `decode_stream`'s do. With temporal tiles at most two groups of frames are
        held at a time, for clips of any length. Otherwise, or if one tile holds the whole clip, there is one
        group. The arguments are `decode`'s. They are checked and the call is planned at once; the engine runs as the
        iterator is read, with tiles one tile ahead. Close the iterator to stop early.

        Args:
            memory: counts what is held on the way. Arrays that the caller keeps are the caller's.
            caller_bytes: bytes of `memory` that the caller needs for what it makes of the frames.
            on_ran: called once, before the engine runs, with how the call runs.

        Raises:
            InputError, BundleError, EngineError, Cancelled: as `decode`.
        """
        if output == "device":
            raise InputError("output='device' gives one result: groups of frames are float32 or uint8")
        options = DecodeOptions(
            crop=crop,
            output=output,
            causal=causal,
            temb=temb,
            rng=rng,
            memory=memory,
            exact=exact,
            progress=progress,
            cancel=cancel,
            in_groups=True,
            caller_bytes=caller_bytes,
        )
        job = self.opened.jobs.decode(z, self.settings, options, may_stream=self._may_stream)

        def groups() -> Generator[Any, None, None]:
            from ..execution.run import run_in_groups

            with self.opened.engines.call(cancel) as scope:
                settled = self.opened.planning.settle(job, memory, scope.check)
                if on_ran is not None:
                    on_ran(settled.ran(self.opened.label, self.dtype))
                yield  # the call is planned
                yield from run_in_groups(self.opened.engines, settled, scope)

        return _begun(self.opened.engines, groups())

    def decode_stream(
        self,
        z: Any,
        frames_per_chunk: int | None = None,
        *,
        output: OutputKind = "float32",
        out: NDArray[Any] | None = None,
        stream: int | None = None,
        causal: bool | None = None,
        temb: Any = None,
        rng: np.random.Generator | int | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[Any]:
        """Decode chunk by chunk with the numbers of a single pass, in memory that the clip's length does not change.

        With tiling enabled, tiles divide height and width, and the numbers are no longer those of a single pass. A
        non-causal decoder looks ahead, so its first frames come after that many latent frames (about 22 for LTX-2.0, 14
        for 2.3, or all of a shorter clip). Read the iterator to its end, or close it.

        Args:
            z: latents (B, latent_channels, t, h, w), or an iterable of such arrays as they are made, each of one latent
                frame or more.
            frames_per_chunk: the most frames of an array. None takes what keeps the widest layers within 256 MiB.
            output: "float32" or "uint8".
            out: an array for the whole clip, if `z` is one array. Frames are written there as they come, and the arrays
                that come are views of it.
            stream: is refused, because frames come to the host.
            temb, rng, causal, cancel: as for `decode`.

        Returns:
            The frames in order, each once: float32 (B, out_channels, t', H, W), or uint8 (B, t', H, W, C).

        Raises:
            InputError: wrong latents, a chunk of another size, no frames at all, an `out` that does not fit, an encoder
                or a precision that cannot stream. BundleError: exported without streaming graphs. EngineError,
                Cancelled: see there.
        """
        options = StreamOptions(
            frames_per_chunk=frames_per_chunk,
            output=output,
            out=out,
            stream=stream,
            causal=causal,
            temb=temb,
            rng=rng,
            cancel=cancel,
        )
        z = latents_of(z)
        size = size_before_padding(z, self.grid, out)
        cut = None if size is None else partial(cut_chunks, size=size, pixels=output == "uint8")
        return self._streamed(self.opened.streams.decode(z, self.settings, options), cancel, cut)

    def encode_stream(
        self,
        frames: Any,
        frames_per_chunk: int | None = None,
        *,
        causal: bool | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[NDArray[np.float32]]:
        """Encode chunk by chunk with the numbers of a single pass.

        Args:
            frames: a clip (B, in_channels, T, H, W) in [-1, 1] or uint8 pixels (B, T, H, W, in_channels), or an
                iterable of such arrays with any number of frames each; 1 + a multiple of the temporal ratio in all.
            frames_per_chunk: the most frames of one step.
            causal, cancel: as for `encode`.

        Returns:
            Moments (B, 2 * latent_channels, t, h, w), as `latent_dist.parameters` holds them, one array after the other
            along t.

        Raises:
            InputError: wrong frames, a chunk of another size, a number of frames off the grid, an encoder that is
                not causal. BundleError: exported without streaming graphs. EngineError, Cancelled: see there.
        """
        options = StreamOptions(frames_per_chunk=frames_per_chunk, causal=causal, cancel=cancel)
        return self._streamed(self.opened.streams.encode(frames, self.settings, options), cancel)

    def clip_strategy(
        self, size: Callable[[], Sequence[int]], memory: int | str | None, *, stream: bool, exact: bool = False
    ) -> Strategy:
        """How to encode a clip of `size()`, (T, H, W), within `memory`. If the clip streams, it is read from a disk
        chunk by chunk. Without `memory` the size is not asked for, except to check that tiles are `exact`. `stream`:
        stream in any case.

        Raises:
            InputError: a size off the grid, or nothing fits. BundleError: exported without streaming graphs.
        """
        base = self.settings
        if stream or isinstance(base.tiling, StripSettings):
            self.opened.jobs.stages("encoder", None)
            base = replace(base, streaming=True)
        if exact and base.streaming and base.tiling is not None and not self.chunks_ran(size(), base).exact:
            raise InputError(f"{argument('exact')}: the tiling that is enabled approximates; call disable_tiling()")
        if memory is None:
            return base
        sample = tuple(size())
        self.grid.check_sample(sample)
        cells = self.grid.latent_size(sample)
        work = Workload(self.config, self.grid, "encoder", 1, cells, comes_in_chunks=True)
        with self.opened.engines.call() as scope:
            may: dict[str, Any] = {"may_stream": self._may_stream, "may_approximate": not exact}
            return self.opened.planning.strategy(work, base, memory, **may, check=scope.check)

    def encode_chunks(self, chunks: Iterable[NDArray[np.float32]], strategy: Strategy) -> Iterator[NDArray[np.float32]]:
        """`encode_stream` by a strategy that `clip_strategy` gave and that streams."""
        options = StreamOptions(frames_per_chunk=strategy.frames_per_chunk)
        return self._streamed(self.opened.streams.encode(chunks, strategy, options), None)

    def chunks_ran(self, size: Sequence[int], strategy: Strategy) -> Ran:
        """How `encode_chunks` runs a clip of `size`, (T, H, W) on the grid, by a strategy that streams."""
        if isinstance(strategy.tiling, StripSettings):
            label = strategy.label(self.grid)
            return Ran(strategy.backend or self.backend, self.dtype, label, strategy.is_exact, strategy.planned_bytes)
        plan = stream_tiles(strategy.tiling, self.grid, "encode", self.grid.latent_size(size)[1:])
        exact = plan.count == 1
        run = strategy.untiled if exact else strategy
        label = run.label(self.grid, self.grid.latent_size(size))
        return Ran(strategy.backend or self.backend, self.dtype, label, exact, strategy.planned_bytes)

    # Settings

    def enable_streaming(self, frames_per_chunk: int | None = None) -> None:
        """Let `encode`, `decode` and `decode_frames` work chunk by chunk. With tiling enabled too, tiles then divide
        height and width only, for frames too large to go through whole; the result is no longer exact.

        Raises:
            InputError, BundleError: the decoder cannot stream.
        """
        self.opened.jobs.stages("decoder", None)
        self.settings = replace(self.settings, streaming=True, frames_per_chunk=frames_per_chunk)
        self._may_stream = True

    def disable_streaming(self) -> None:
        """Work on whole clips, also where the planner would find a stream better. `reset_streaming` undoes this."""
        self.settings = replace(self.settings, streaming=False, frames_per_chunk=None)
        self._may_stream = False

    def reset_streaming(self) -> None:
        """Go back to how the bundle was opened: whole clips, and streams where the planner finds them better. Undoes
        `enable_streaming` and `disable_streaming`."""
        self.settings = replace(self.settings, streaming=False, frames_per_chunk=None)
        self._may_stream = True

    @property
    def streaming(self) -> bool:
        """Whether streaming is enabled."""
        return self.settings.streaming

    def _streamed(
        self,
        job: StreamJob,
        cancel: CancelToken | None,
        cut: Callable[[Iterable[Any]], Iterator[Any]] | None = None,
    ) -> Iterator[Any]:
        from ..execution.stream import stream_pieces  # here: other calls do not pay for it

        def pieces() -> Generator[Any, None, None]:
            with self.opened.engines.call(cancel) as scope:
                yield
                made = stream_pieces(self.opened.engines, job, scope)
                yield from made if cut is None else cut(made)

        return _begun(self.opened.engines, pieces())


def _begun(engines: EngineSets, call: Generator[Any, None, None]) -> Iterator[Any]:
    """A call's iterator, run up to its first `yield`, so that the call can be cancelled from now on."""
    next(call)
    return engines.each(call)
