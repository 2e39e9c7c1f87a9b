"""The LTX-2 video VAE at run time: conditioning, noise and time beside what all families share."""

from __future__ import annotations  # or every annotation of a generator would import numpy.random

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.boundary import check_output
from ..arrays.kinds import OutputKind
from ..arrays.ran import Ran
from ..backends.sessions import Sessions
from ..bundle.graph import Graph
from ..calls.blends import VideoBlend
from ..calls.cancel_token import CancelToken
from ..calls.conditions import Conditions, draw_noise, timesteps
from ..calls.jobs import Job, Progress
from ..calls.strategy import Strategy
from ..calls.strip_settings import StripSettings
from ..calls.tiling_arguments import video_tiling
from ..calls.tiling_settings import TilingSettings
from ..config.ltx2 import AutoencoderKLLTX2VideoConfig
from ..errors import InputError
from ..execution.clip_stream import ClipStream
from ..execution.execution import execute_in_groups
from .autoencoder import Autoencoder
from .clip_calls import ClipCalls

__all__ = ["AutoencoderKLLTX2Video"]


class AutoencoderKLLTX2Video(Autoencoder):
    """LTX-2.0, 2.3 and 2.5 (convolutional decoder). Arrays are (B, C, T, H, W).

    Timestep-conditioned decoders take `temb`, (B,) timesteps; decoders that inject noise take `rng`.
    """

    family = AutoencoderKLLTX2VideoConfig.family
    _streaming = False
    _may_stream = True
    _frames_per_chunk: int | None = None

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

        Raises:
            InputError: an illegal value; the message names the nearest legal ones.
        """
        self._tiling = video_tiling(
            self.grid,
            blend=blend,
            sizes=(tile_sample_min_num_frames, tile_sample_min_height, tile_sample_min_width),
            strides=(tile_sample_stride_num_frames, tile_sample_stride_height, tile_sample_stride_width),
            framewise=framewise,
            compat_shift=compat_shift,
            tiles_per_call=tiles_per_call,
        )
        self._use_tiling = True

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
        memory_beside: int = 0,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        on_ran: Callable[[Ran], None] | None = None,
    ) -> Iterator[Any]:
        """Decode, and give the frames as they are finished: float32 (B, C, t, H, W), or with `output="uint8"`
        (B, t, H, W, C), one array after the other, each the caller's own.

        With streaming enabled they come as `decode_stream`'s do. With temporal tiles at most two groups of frames are
        held at a time, whatever the length of the clip. Otherwise, or where one tile holds the whole clip, there is one
        group. The arguments are `decode`'s, and they are checked at once; the engine runs as the iterator is read, with
        tiles one tile ahead. Close the iterator to stop early. `memory` counts what is held on the way; arrays that
        the caller keeps are the caller's, and `memory_beside` bytes of it are what the caller makes of them. `on_ran`
        is called once, before the engine runs, with how the call runs.

        Raises:
            InputError, BundleError, EngineError, Cancelled: as `decode`.
        """
        options: dict[str, Any] = {"crop": crop, "causal": causal, "temb": temb, "rng": rng, "progress": progress}
        options["cancel"] = cancel
        kept_as = "frames" if output == "uint8" else output
        strategy = self._strategy("decoder", z, memory, kept_as, causal, beside_bytes=memory_beside, cancel=cancel)
        job = self._decode_job(z, strategy, **options)
        if on_ran is not None:
            on_ran(self._ran(job, strategy))
        if strategy.streaming:
            check_output(output, None, job.wanted_shape)
            return self._stream_of(strategy).job_frames(job, strategy.frames_per_chunk, output)
        return execute_in_groups(self._engines.of(strategy), job, output=output)

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

        `z`: latents (B, latent_channels, t, h, w), or an iterable of such arrays as they are made, one latent frame
        each if need be. Frames come in order, each once: float32 (B, out_channels, t', H, W), or uint8 (B, t', H, W,
        C). A non-causal decoder sees ahead, so its first frames come when that many latent frames are there (about 22
        for LTX-2.0, 14 for 2.3, or all of a shorter clip). `frames_per_chunk`: the most frames of an array; None
        takes what keeps the widest layers within 256 MiB. `out`: an array for the whole clip, into which frames go as
        they come, where `z` is one array; what is given are views of it then. `stream` is refused: frames come to the
        host. `temb`, `rng`, `causal`, `cancel`: as for `decode`. With tiling enabled, tiles divide height and width,
        and the numbers are no longer those of a single pass. The iterator is to be read to its end, or closed.

        Raises:
            InputError: wrong latents, a chunk of another size, no frames at all, an `out` that does not fit, an encoder
                or a precision that cannot stream. BundleError: exported without streaming graphs. EngineError,
                Cancelled: see there.
        """
        return self._stream.decode(
            z,
            lambda latents: self._conditions(latents, temb, rng),
            frames_per_chunk=frames_per_chunk,
            output=output,
            out=out,
            stream=stream,
            causal=causal,
            cancel=cancel,
        )

    def encode_stream(
        self,
        frames: Any,
        frames_per_chunk: int | None = None,
        *,
        causal: bool | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[NDArray[np.float32]]:
        """Encode chunk by chunk with the numbers of a single pass: moments (B, 2 * latent_channels, t, h, w), what
        `latent_dist.parameters` holds, one array after the other along t.

        `frames`: a clip (B, in_channels, T, H, W) in [-1, 1], or an iterable of such arrays with any number of frames
        each; 1 + a multiple of the temporal ratio in all. `frames_per_chunk`: the most frames of one step.

        Raises:
            InputError: wrong frames, a chunk of another size, a number of frames off the grid, an encoder that is
                not causal. BundleError: exported without streaming graphs. EngineError, Cancelled: see there.
        """
        return self._stream.encode(frames, frames_per_chunk=frames_per_chunk, causal=causal, cancel=cancel)

    def clip_strategy(self, size: Callable[[], Sequence[int]], memory: int | str | None, *, stream: bool) -> Strategy:
        """How to encode a clip of `size()`, (T, H, W), that is read from a disk chunk by chunk where it streams, within
        `memory`; without it nobody asks for the size. `stream`: chunk by chunk in any case.

        Raises:
            InputError: a size off the grid, or nothing fits. BundleError: exported without streaming graphs.
        """
        base = self.settings
        if stream:
            self._stream.stages("encoder", None)
            base = replace(base, streaming=True)
        if memory is None:
            return base
        cells = self.grid.latent_size(size())
        return self._planned(self.workload("encoder", 1, cells, comes_in_chunks=True), base, memory)

    def encode_chunks(self, chunks: Iterable[NDArray[np.float32]], strategy: Strategy) -> Iterator[NDArray[np.float32]]:
        """`encode_stream` by a strategy that `clip_strategy` gave, which streams."""
        return self._stream_of(strategy).encode(chunks, frames_per_chunk=strategy.frames_per_chunk, causal=None)

    def chunks_ran(self, size: Sequence[int], strategy: Strategy) -> Ran:
        """How `encode_chunks` runs a clip of `size`, (T, H, W) on the grid, by a strategy that streams."""
        tiling = strategy.tiling
        assert not isinstance(tiling, StripSettings)
        cells = self.grid.latent_size(size)
        exact = tiling is None or tiling.plan(self.grid, "encode", cells).shape[1:] == (1, 1)
        return self._report(strategy, exact, 1)

    def enable_streaming(self, frames_per_chunk: int | None = None) -> None:
        """Let `encode`, `decode` and `decode_frames` work chunk by chunk. With tiling enabled too, tiles then divide
        height and width only, for frames too large to go through whole; the result is no longer exact.

        Raises:
            InputError, BundleError: the decoder cannot stream.
        """
        self._stream.stages("decoder", None)
        self._streaming, self._frames_per_chunk = True, frames_per_chunk

    def disable_streaming(self) -> None:
        """Work on whole clips again, also where `memory` is given and a stream would be the better plan."""
        self._streaming, self._may_stream, self._frames_per_chunk = False, False, None

    @property
    def streaming(self) -> bool:
        """Whether streaming is enabled."""
        return self._streaming

    @property
    def settings(self) -> Strategy:
        return replace(super().settings, streaming=self._streaming, frames_per_chunk=self._frames_per_chunk)

    def _is_exact(self, job: Job, strategy: Strategy) -> bool:
        if not strategy.streaming or job.plan is None:
            return super()._is_exact(job, strategy)
        return job.plan.shape[1:] == (1, 1)  # tiles in time are left to the stream

    def _stream_of(self, strategy: Strategy) -> ClipStream:
        tiling = strategy.tiling
        assert not isinstance(tiling, StripSettings)  # of image models
        return self._clip_stream(lambda: tiling, self._engines.of(strategy))

    def _tiles(self) -> TilingSettings | None:
        tiling = self._active_tiling
        assert not isinstance(tiling, StripSettings)
        return tiling

    @cached_property
    def _stream(self) -> ClipStream:
        return self._clip_stream(self._tiles, self._sessions)

    def _clip_stream(self, tiling: Callable[[], TilingSettings | None], sessions: Sessions) -> ClipStream:
        graphs = sessions.backend.graph_dtype  # float32 for a backend that lowers them itself
        return ClipStream(self._manifest, sessions, self._jobs, self.grid, graphs, tiling)

    def _execute(
        self, job: Job, strategy: Strategy, *, output: str, out: NDArray[Any] | None, stream: int | None
    ) -> Any:
        if not strategy.streaming or stream is not None:
            return super()._execute(job, strategy, output=output, out=out, stream=stream)
        return self._stream_of(strategy).job(job, strategy.frames_per_chunk, output, out)

    def _drop(self, job: Job, strategy: Strategy) -> None:
        if not strategy.streaming:
            super()._drop(job, strategy)
            return
        for _ in self._stream_of(strategy).job_frames(job, strategy.frames_per_chunk, "float32"):
            pass

    def _conditions(self, latents: Any, temb: Any, rng: np.random.Generator | int | None) -> Conditions:
        config = self.config
        steps = timesteps(temb, latents.shape[0]) if config.timestep_conditioning else None
        if not config.timestep_conditioning:
            super()._conditions(latents, temb, rng)  # refuses a temb
        if not config.noise_stacks:
            return Conditions(steps)
        if rng is None:
            raise InputError("rng: this decoder injects noise; give a numpy.random.Generator or a seed")
        return Conditions(steps, draw_noise(config, latents.shape[-2:], rng))

    def _neutral_conditions(self, batch: int) -> dict[str, Any]:
        conditioned = self.config.timestep_conditioning
        return {"temb": np.zeros(batch, np.float32) if conditioned else None, "rng": 0}

    def _called_graphs(self, component: str) -> Sequence[Graph]:
        return self._stream.stages(component, None) if self._streaming else super()._called_graphs(component)
