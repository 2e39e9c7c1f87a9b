"""What the families share: encode and decode, slicing, tiling, warm-up."""

from __future__ import annotations  # or every annotation of a generator would import numpy.random

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...tiling import Plan
from ...tiling.plan import Direction
from ..arrays import latents as latents_module
from ..arrays.kinds import OutputKind
from ..arrays.outputs import AutoencoderKLOutput, DecoderOutput
from ..arrays.posterior import DiagonalGaussian, generator_from
from ..arrays.ran import Ran
from ..bundle.graph import Graph
from ..bundle.manifest import Manifest
from ..calls.blends import ImageBlend
from ..calls.cancel_token import CancelToken
from ..calls.conditions import Conditions
from ..calls.jobs import Job, Progress, Tiling
from ..calls.strategy import Strategy
from ..calls.strip_settings import StripSettings
from ..calls.tiling_settings import TilingSettings
from ..calls.workload import Workload
from ..errors import InputError
from ..execution.execution import execute
from .clip_calls import ClipCalls
from .opened_bundle import OpenedBundle
from .video_calls import VideoCalls
from .warmup_calls import warmup_calls

if TYPE_CHECKING:
    from ..planner.decision import Decision  # which imports what only planned calls need

__all__ = ["Autoencoder"]

Array = NDArray[np.float32]


class Autoencoder(OpenedBundle, VideoCalls, ABC):
    """Encode and decode with the engines of a bundle. Made by `open_bundle` or a family's `from_pretrained`.

    Arrays are (B, C, H, W) for images and (B, C, T, H, W) for video. It holds memory: use it as a context manager,
    or call `close`. Threads may share it.
    """

    _tiling: Tiling
    _use_tiling: bool

    def __init__(self, manifest: Manifest, **options: Any) -> None:
        """`options` as in `open_bundle`."""
        super().__init__(manifest, **options)
        self._slicing = False
        self.enable_tiling()  # the default settings, for tiled_encode and tiled_decode
        self._use_tiling = False

    # Encoding and decoding

    def encode(
        self,
        x: Any,
        *,
        pad: bool = False,
        output: OutputKind = "float32",
        out: NDArray[Any] | None = None,
        stream: int | None = None,
        causal: bool | None = None,
        memory: int | str | None = None,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> AutoencoderKLOutput:
        """A sample to the distribution of its latents.

        `x`: float32 (B, in_channels, H, W) or (B, in_channels, T, H, W) in [-1, 1]; H and W multiples of the spatial
        ratio, T = 1 + a multiple of the temporal ratio. With `pad` any size is padded at the end of each axis.
        `out`: float32 array for the moments (B, 2 * latent_channels, ...), a memory-mapped one for instance. `causal`:
        video only, where the graph was exported for it. `progress(done, in all)` is told the tiles, or the elements of
        a sliced batch, and may raise, to stop. With tiles the moments are blended. `memory`, `cancel`: as for `decode`.

        Raises:
            InputError: wrong rank, channels, dtype, size or content, or nothing that fits into `memory`.
            BundleError: the bundle has no encoder. EngineError, Cancelled: see there.
        """
        options: dict[str, Any] = {"output": output, "out": out, "stream": stream}
        strategy = self._strategy("encoder", x, memory, output, causal, stream, pad=pad, cancel=cancel)
        return self._encode(x, strategy, pad=pad, causal=causal, progress=progress, cancel=cancel, **options)

    def decode(
        self,
        z: Any,
        *,
        crop: Sequence[int] | None = None,
        output: OutputKind = "float32",
        out: NDArray[Any] | None = None,
        stream: int | None = None,
        causal: bool | None = None,
        temb: Any = None,
        rng: np.random.Generator | int | None = None,
        memory: int | str | None = None,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> DecoderOutput:
        """Model latents to a sample.

        `z`: float32 (B, latent_channels, h, w) or (B, latent_channels, t, h, w), raw latents as diffusers' decode
        takes them (`unscale_latents` makes them from diffusion latents). The sample is float32 (B, out_channels, ...)
        of about [-1, 1], not clipped; with `output="uint8"` pixels (B, H, W, C) or (B, T, H, W, C); with
        `output="device"` an object with `__dlpack__` on the engine's device. `out` is a preallocated array for it, a
        memory-mapped one for instance. `crop`: a size (H, W) or (T, H, W) to cut the sample to, after
        `encode(pad=True)`. `temb`: (B,) timesteps for timestep-conditioned decoders. `rng`: for decoders that inject
        noise. `progress(done, in all)` is told the tiles, or the elements of a sliced batch, and may raise, to stop.
        `cancel`: a `CancelToken` that stops this call; `Autoencoder.cancel` stops every call.

        `memory`: what the call may make the process hold, such as "8GiB" or bytes: the engine and its library, input,
        activations and result. The planner then takes the fastest way that fits, an exact one wherever one fits; the
        output's `exact` tells. The first time it measures a few small calls, which takes seconds. Without `memory`
        nothing is planned, unless the call might not fit into 70 % of the free memory. With tiling enabled there is
        nothing to plan, and `memory` is refused; with streaming enabled it chooses the chunks.

        Raises:
            InputError: wrong rank, channels, dtype, size or content, a condition missing or not taken, or nothing
                that fits into `memory`; the message says what would.
            BundleError: the bundle has no decoder. EngineError, Cancelled: see there.
        """
        options: dict[str, Any] = {"crop": crop, "causal": causal, "temb": temb, "rng": rng, "progress": progress}
        options["cancel"] = cancel
        strategy = self._strategy("decoder", z, memory, output, causal, stream, cancel=cancel)
        job = self._decode_job(z, strategy, **options)
        sample = self._execute(job, strategy, output=output, out=out, stream=stream)
        ran = self._ran(job, strategy)
        return DecoderOutput(sample, ran.exact, ran)

    def tiled_encode(self, x: Any, **options: Any) -> AutoencoderKLOutput:
        """`encode` in tiles, whether or not tiling is enabled: with the settings that `enable_tiling` made last, or
        its defaults. Options are `encode`'s, but for `memory`."""
        _refuse_memory("tiled_encode", options)
        return self._encode(x, self._tiled_strategy, gated=False, **options)

    def tiled_decode(
        self,
        z: Any,
        *,
        output: OutputKind = "float32",
        out: NDArray[Any] | None = None,
        stream: int | None = None,
        **options: Any,
    ) -> DecoderOutput:
        """`decode` in tiles, whether or not tiling is enabled: with the settings that `enable_tiling` made last, or
        its defaults. Further options are `decode`'s, but for `memory`."""
        _refuse_memory("tiled_decode", options)
        job = self._decode_job(z, self._tiled_strategy, gated=False, **options)
        sample = execute(self._sessions, job, output=output, out=out, stream=stream)
        return DecoderOutput(sample, job.is_exact, replace(self._ran(job, self._tiled_strategy), exact=job.is_exact))

    def __call__(
        self,
        x: Any,
        *,
        sample_posterior: bool = False,
        rng: np.random.Generator | int | None = None,
        pad: bool = False,
        encoder_causal: bool | None = None,
        decoder_causal: bool | None = None,
        **decode_options: Any,
    ) -> DecoderOutput:
        """Encode and decode: the mean latents, or with `sample_posterior` ones drawn with `rng`. With `pad` a sample
        of any size comes back in its own size. Further options are `decode`'s; `memory` and `cancel` are for both."""
        both = {name: decode_options[name] for name in ("memory", "cancel") if name in decode_options}
        posterior = self.encode(x, pad=pad, causal=encoder_causal, **both).latent_dist
        if sample_posterior:
            if rng is None:
                raise InputError("sample_posterior=True needs rng: a numpy.random.Generator or a seed")
            rng = generator_from(rng)  # one stream for the latents and then, where it is taken, the noise
            latents = posterior.sample(rng)
        else:
            latents = posterior.mode()
        if pad and "crop" not in decode_options:
            decode_options["crop"] = tuple(x.shape[2:])
        return self.decode(latents, rng=rng, causal=decoder_causal, **decode_options)

    def scale_latents(self, z: Array) -> Array:
        """Model latents -> diffusion latents, as the diffusers pipelines scale them; float32 (B, C, ...)."""
        return latents_module.scale_latents(self._latents(z), self.config)

    def unscale_latents(self, z: Array) -> Array:
        """Diffusion latents -> model latents, what `decode` takes.

        The pipelines of Stable Diffusion, SDXL, SD3 and FLUX.1 give diffusion latents with `output_type="latent"`.
        LTX-2's and FLUX.2 Klein's give model latents: do not unscale those (docs/latents.md has the table).
        """
        latents = self._jobs.array(z, "latents", self.config.diffusion_channels, device="cpu")
        return latents_module.unscale_latents(latents, self.config)

    # Settings

    @property
    def settings(self) -> Strategy:
        """What the user has enabled."""
        return Strategy(self._active_tiling, sliced=self._slicing)

    def enable_slicing(self) -> None:
        """Run one batch element at a time: less memory for large batches, the same result."""
        self._slicing = True

    def disable_slicing(self) -> None:
        self._slicing = False

    @abstractmethod
    def enable_tiling(
        self,
        tile_sample_min_height: int | None = None,
        tile_sample_min_width: int | None = None,
        *,
        tile_sample_stride_height: int | None = None,
        tile_sample_stride_width: int | None = None,
        blend: ImageBlend = "linear",
        tiles_per_call: int = 1,
    ) -> None:
        """Encode and decode in overlapping tiles from now on.

        These are the arguments that all families take; each family documents them, and may take more.
        """

    def disable_tiling(self) -> None:
        """Encode and decode in one pass again; the settings stay for `tiled_encode` and `tiled_decode`."""
        self._use_tiling = False

    def tile_plan(self, component: str, sample_size: Sequence[int]) -> Plan:
        """How the "encoder" or the "decoder" would tile a sample of that size, (H, W) or (T, H, W), with the settings
        that `enable_tiling` made last, or its defaults; one tile where it fits into one.

        Raises:
            InputError: another component, or a size off the grid.
        """
        if component not in ("encoder", "decoder"):
            raise InputError(f"tile_plan: the component is 'encoder' or 'decoder', got {component!r}")
        self.grid.check_sample(sample_size)
        if isinstance(self._tiling, StripSettings):
            raise InputError(
                "tile_plan: exact strips are cut step by step and have no plan; enable tiling without exact"
            )
        direction: Direction = "encode" if component == "encoder" else "decode"
        return self._tiling.plan(self.grid, direction, self.grid.latent_size(sample_size))

    def decide(self, work: Workload, budget: int, *, complete: bool = False, spend: int | None = None) -> Decision:
        """How a call with this memory budget, in bytes, would run as things are enabled; `complete`: with every
        strategy that was looked at. `spend`: what measuring may take, in bytes (None: the budget).

        Raises:
            EngineError: no strategy could be measured. BackendUnavailable: as in `planner`.
        """
        return self._planning.decide(work, budget, self.settings, complete=complete, spend=spend)

    def run_strategy(self, strategy: Strategy, component: str, array: Any) -> None:
        """Run a component by a strategy on a sample or latents, whatever is enabled, and drop the result: for
        measuring. A clip's frames are dropped as they come, where it streams."""
        if component == "encoder":
            self._encode(array, strategy)
            return
        self._drop(self._decode_job(array, strategy, **self._neutral_conditions(array.shape[0])), strategy)

    def warmup(self, shapes: Iterable[Sequence[int]] = ()) -> None:
        """Do everything slow beforehand: run the engines once on zeros for each shape; without shapes, load them all.

        A shape is a sample's, (B, in_channels, ...), which runs encoder and decoder (those that the bundle holds), or
        latents', (B, latent_channels, ...), which runs the decoder. With OpenVINO each shape (of a tile, with tiles)
        gets a model of its own, which is faster than the one for every size, and holds the weights once more; in
        bfloat16 it costs 1 to 2.5 dB where it has fewer multiplications (on CPUs without AMX). With streaming enabled
        the steps of most frames of each stage have one, if two of them come between the first and the last one. Where a
        graph has several engines (TensorRT), its shapes decide which are loaded; without shapes none of them is.

        Raises:
            InputError: a shape that is neither.
        """
        wanted = [tuple(shape) for shape in shapes]
        if not wanted:
            for component in self._manifest.components:
                for graph in self._called_graphs(component):
                    self._sessions.component(graph)
        with self._sessions.fitting():
            for component, shape in warmup_calls(self._manifest, self.grid, wanted):
                zeros = np.zeros(shape, np.float32)
                if component == "encoder":
                    self.encode(zeros)
                else:
                    self.decode(zeros, **self._neutral_conditions(shape[0]))

    # What the families differ in

    @property
    def clip_calls(self) -> ClipCalls | None:
        """The calls that only video models have, or None."""
        return None

    def _conditions(self, latents: Any, temb: Any, rng: np.random.Generator | int | None) -> Conditions:
        """The decoder's further inputs; image decoders take none."""
        if temb is not None:
            raise InputError("temb: this decoder is not timestep-conditioned; call decode without it")
        return Conditions()

    def _neutral_conditions(self, batch: int) -> dict[str, Any]:
        return {}

    def _called_graphs(self, component: str) -> Sequence[Graph]:
        """Those that a call runs on, as things are set."""
        return (self._jobs.graph(component, None),)

    # Within

    @property
    def _active_tiling(self) -> Tiling | None:
        return self._tiling if self._use_tiling else None

    @property
    def _tiled_strategy(self) -> Strategy:
        return replace(self.settings, tiling=self._tiling)

    @property
    def _may_stream(self) -> bool:
        return False

    def _strategy(
        self,
        component: str,
        array: Any,
        memory: int | str | None,
        output: str,
        causal: bool | None,
        stream: int | None = None,
        *,
        pad: bool = False,
        beside_bytes: int = 0,
        cancel: CancelToken | None = None,
    ) -> Strategy:
        one = output == "device" or stream is not None
        options = {"in_one_pass": one, "beside_bytes": beside_bytes}
        work = self._planning.workload_of(component, array, output, pad=pad, **options)
        return self._planned(work, self.settings, memory, causal, cancel)

    def _planned(
        self,
        work: Workload | None,
        enabled: Strategy,
        memory: int | str | None,
        causal: bool | None = None,
        cancel: CancelToken | None = None,
    ) -> Strategy:
        may_stream = self._may_stream and causal is None  # streaming graphs are of one causality
        with self._sessions.call(token=cancel) as call:
            return self._planning.strategy(work, enabled, memory=memory, may_stream=may_stream, check=call.check)

    def _encode(
        self,
        x: Any,
        strategy: Strategy,
        *,
        output: str = "float32",
        out: NDArray[Any] | None = None,
        stream: int | None = None,
        **options: Any,
    ) -> AutoencoderKLOutput:
        if output == "uint8":
            raise InputError("output='uint8' is for pictures: encode gives moments, as float32 or on the device")
        job = self._jobs.encode(x, strategy.tiling, sliced=strategy.sliced, specialise=strategy.specialise, **options)
        moments = self._execute(job, strategy, output=output, out=out, stream=stream)
        ran = self._ran(job, strategy)
        return AutoencoderKLOutput(DiagonalGaussian(moments), ran.exact, ran)

    def _execute(
        self, job: Job, strategy: Strategy, *, output: str, out: NDArray[Any] | None, stream: int | None
    ) -> Any:
        return execute(self._engines.of(strategy), job, output=output, out=out, stream=stream)

    def _drop(self, job: Job, strategy: Strategy) -> None:
        self._execute(job, strategy, output="float32", out=None, stream=None)

    def _is_exact(self, job: Job, strategy: Strategy) -> bool:
        return job.is_exact

    def _ran(self, job: Job, strategy: Strategy) -> Ran:
        return self._report(strategy, self._is_exact(job, strategy), job.shape[0])

    def _report(self, strategy: Strategy, exact: bool, batch: int) -> Ran:
        """How a call ran by `strategy`; tiles that hold the whole sample are none."""
        if exact and isinstance(strategy.tiling, TilingSettings):
            strategy = strategy.untiled
        if batch == 1:
            strategy = replace(strategy, sliced=False)
        return Ran(
            strategy.backend or self.backend, self.dtype, strategy.label(self.grid), exact, strategy.planned_bytes
        )

    def _decode_job(
        self,
        z: Any,
        strategy: Strategy,
        *,
        temb: Any = None,
        rng: np.random.Generator | int | None = None,
        **options: Any,
    ) -> Job:
        def conditions(latents: Any) -> Conditions:
            return self._conditions(latents, temb, rng)

        return self._jobs.decode(
            z, strategy.tiling, conditions, sliced=strategy.sliced, specialise=strategy.specialise, **options
        )

    def _latents(self, z: Array) -> Array:
        return self._jobs.array(z, "latents", self.config.latent_channels, device="cpu")  # type: ignore[no-any-return]


def _refuse_memory(method: str, options: dict[str, Any]) -> None:
    if options.pop("memory", None) is not None:
        planned = method.removeprefix("tiled_")
        raise InputError(f"memory: {method} runs the tiles that enable_tiling made; for a plan, call {planned}")
