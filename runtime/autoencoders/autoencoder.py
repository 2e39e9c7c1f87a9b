"""What all autoencoders share: encode and decode, slicing, tiling, plans, and warm-up."""

from __future__ import annotations  # or every annotation of a generator would import numpy.random

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.kinds import OutputKind
from ..arrays.outputs import AutoencoderKLOutput, DecoderOutput
from ..arrays.posterior import DiagonalGaussian, generator_from
from ..calls.blends import ImageBlend
from ..calls.options import DecodeOptions, EncodeOptions, without_memory
from ..calls.strategy import WHOLE, Strategy
from ..errors import InputError
from .latent_scaling import LatentScaling
from .video_calls import VideoCalls

if TYPE_CHECKING:
    from ...tiling import Plan
    from ..bundle.manifest import Manifest
    from ..calls.cancel_token import CancelToken
    from ..calls.options import Progress
    from ..calls.strategy import Tiling
    from ..planner.calibration import Calibration
    from ..planner.decision import Decision

__all__ = ["Autoencoder"]

Array = NDArray[np.float32]


class Autoencoder(LatentScaling, VideoCalls):
    """Encode and decode with the engines of a bundle. Made by `open_bundle` or a family's `from_pretrained`.

    Arrays are (B, C, H, W) for images and (B, C, T, H, W) for video.

    Attributes:
        settings: what is enabled, as the strategy of calls that are not planned.
    """

    settings: Strategy = WHOLE
    _tiling: Tiling  # of tiled_encode and tiled_decode, whether or not it is enabled
    _may_stream = False

    def __init__(self, manifest: Manifest, **options: Any) -> None:
        """`options` as in `open_bundle`."""
        super().__init__(manifest, **options)
        self.enable_tiling()
        self.disable_tiling()

    # Encoding and decoding

    def encode(
        self,
        x: Any,
        *,
        pad: bool = False,
        check_range: bool = True,
        output: OutputKind = "float32",
        out: NDArray[Any] | None = None,
        stream: int | None = None,
        causal: bool | None = None,
        memory: int | str | None = None,
        exact: bool = False,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> AutoencoderKLOutput:
        """A sample, or pixels, to the distribution of its latents.

        Args:
            x: a float32 sample (B, in_channels, H, W) or (B, in_channels, T, H, W) in [-1, 1], or uint8 pixels
                (B, H, W, in_channels) or (B, T, H, W, in_channels) as `decode(output="uint8")` gives them. H and W are
                multiples of the spatial ratio, T is 1 + a multiple of the temporal ratio.
            pad: take a sample of any size, and pad it at the end of each axis. The latents remember the size, and
                `decode` cuts its result to it.
            check_range: refuse a float sample whose values are those of a picture in 0..255 or 0..1. A sample without a
                value below 0 that reaches from nearly 0 to nearly 1 counts as 0..1. False takes the values as they are.
            out: a float32 array for the moments, (B, 2 * latent_channels, ...), for instance a memory-mapped one.
            causal: for video models whose graph was exported for it.
            progress: called with (tiles or batch elements done, in all). It may raise, to stop the call.
            output, stream, memory, exact, cancel: as for `decode`, except that `output` is not "uint8".

        Returns:
            The distribution. Tiles give blended moments.

        Raises:
            InputError: a wrong argument, or nothing fits into `memory`. BundleError: the bundle has no encoder.
            EngineError, Cancelled: see there.
        """
        options = EncodeOptions(
            pad=pad,
            check_range=check_range,
            output=output,
            out=out,
            stream=stream,
            causal=causal,
            memory=memory,
            exact=exact,
            progress=progress,
            cancel=cancel,
        )
        job = self.opened.jobs.encode(x, self.settings, options, may_stream=self._may_stream)
        moments, ran = self.opened.run(job, options)
        return AutoencoderKLOutput(DiagonalGaussian(moments, job.original_size), ran.exact, ran)

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
        exact: bool = False,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> DecoderOutput:
        """Model latents to a sample.

        Args:
            z: float32 (B, latent_channels, h, w) or (B, latent_channels, t, h, w): raw latents, as diffusers' decode
                takes them. `unscale_latents` makes them from diffusion latents. Of an output of `encode` the most
                likely latents.
            crop: a size (H, W) or (T, H, W) to cut the sample to. None: the size that latents of `encode(pad=True)`
                remember, if they do.
            output: "float32", "uint8" or "device", see below.
            out: an array for the sample, for instance a memory-mapped one.
            stream: a CUDA stream of the caller's, in which the engine runs.
            causal: for video models whose graph was exported for it.
            temb: (B,) timesteps, for timestep-conditioned decoders.
            rng: a generator or a seed, for decoders that inject noise.
            memory: what the process may hold for the call, in bytes or such as "8GiB": the engine and its library,
                input, activations and result. The planner takes the fastest way that fits, an exact one if one fits;
                the output's `exact` says so. It measures a few small calls the first time, which takes seconds.
                Without `memory` nothing is planned, unless the call might not fit into 70 % of the free memory. With
                tiling enabled `memory` is refused; with streaming enabled it chooses the chunks.
            exact: refuse a call that would approximate. With `memory` the message names the least exact budget.
            progress: called with (tiles or batch elements done, in all). It may raise, to stop the call.
            cancel: a `CancelToken` that stops this call; `Autoencoder.cancel` stops every call.

        Returns:
            The sample, float32 (B, out_channels, ...) of about [-1, 1], not clipped. With `output="uint8"` it is pixels
            (B, H, W, C) or (B, T, H, W, C), with `output="device"` an object with `__dlpack__` on the engine's device.

        Raises:
            InputError: a wrong argument, or nothing fits into `memory`; the message says what would fit.
            BundleError: the bundle has no decoder. EngineError, Cancelled: see there.
        """
        options = DecodeOptions(
            crop=crop,
            output=output,
            out=out,
            stream=stream,
            causal=causal,
            temb=temb,
            rng=rng,
            memory=memory,
            exact=exact,
            progress=progress,
            cancel=cancel,
        )
        job = self.opened.jobs.decode(z, self.settings, options, may_stream=self._may_stream)
        sample, ran = self.opened.run(job, options)
        return DecoderOutput(sample, ran.exact, ran)

    def tiled_encode(self, x: Any, **options: Any) -> AutoencoderKLOutput:
        """`encode` in tiles, whether or not tiling is enabled: with the settings that `enable_tiling` made last, or
        its defaults. The options are those of `encode`, except `memory`."""
        chosen = EncodeOptions(**without_memory("tiled_encode", options))
        job = self.opened.jobs.encode(x, replace(self.settings, tiling=self._tiling), chosen, gated=False)
        moments, ran = self.opened.run(job, chosen)
        return AutoencoderKLOutput(DiagonalGaussian(moments, job.original_size), ran.exact, ran)

    def tiled_decode(self, z: Any, **options: Any) -> DecoderOutput:
        """`decode` in tiles, whether or not tiling is enabled: with the settings that `enable_tiling` made last, or
        its defaults. The options are those of `decode`, except `memory`."""
        chosen = DecodeOptions(**without_memory("tiled_decode", options))
        strategy = replace(self.settings, tiling=self._tiling, streaming=False, frames_per_chunk=None)
        sample, ran = self.opened.run(self.opened.jobs.decode(z, strategy, chosen, gated=False), chosen)
        return DecoderOutput(sample, ran.exact, ran)

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
        """Encode and decode: the mean latents, or with `sample_posterior` latents drawn with `rng`. With `pad` a sample
        of any size comes back in its own size. Further options are `decode`'s; `memory`, `exact` and `cancel` are for
        both."""
        from ..calls.round_trip import check_round_trip

        both = {name: decode_options[name] for name in ("memory", "exact", "cancel") if name in decode_options}
        if sample_posterior and rng is None:
            raise InputError("sample_posterior=True needs rng: a numpy.random.Generator or a seed")
        if rng is not None:
            rng = generator_from(rng)  # one stream for the latents and then, if the decoder takes it, for the noise
        encoding = EncodeOptions(pad=pad, causal=encoder_causal, exact=bool(both.get("exact")))
        decoding = DecodeOptions(causal=decoder_causal, rng=None if rng is None else 0, **decode_options)
        check_round_trip(self.opened.jobs, x, self.settings, encoding, decoding, may_stream=self._may_stream)
        posterior = self.encode(x, pad=pad, causal=encoder_causal, **both).latent_dist
        latents = posterior.sample(rng) if rng is not None and sample_posterior else posterior.mode()
        if posterior.original_size is not None:
            decode_options.setdefault("crop", posterior.original_size)
        return self.decode(latents, rng=rng, causal=decoder_causal, **decode_options)

    # Settings

    def enable_slicing(self) -> None:
        """Run one batch element at a time: less memory for large batches, the same result."""
        self.settings = replace(self.settings, sliced=True)

    def disable_slicing(self) -> None:
        self.settings = replace(self.settings, sliced=False)

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
        self.settings = self.settings.untiled

    def _tile(self, tiling: Tiling) -> None:
        self._tiling, self.settings = tiling, replace(self.settings, tiling=tiling)

    # Before calls

    def tile_plan(self, component: str, sample_size: Sequence[int]) -> Plan:
        """How the "encoder" or the "decoder" would tile a sample of that size, (H, W) or (T, H, W), with the settings
        that `enable_tiling` made last, or its defaults. The plan has one tile if that holds everything.

        Raises:
            InputError: another component, or a size off the grid.
        """
        from .preparation import tile_plan

        return tile_plan(self.grid, self._tiling, component, sample_size)

    def plan(
        self,
        size: Sequence[int],
        *,
        component: str = "decoder",
        batch: int = 1,
        memory: int | str | None = None,
        exact: bool = False,
        output: str = "float32",
        in_chunks: bool = False,
        caller_bytes: int = 0,
        complete: bool = False,
    ) -> Decision:
        """How a call would run within a memory budget. Nothing runs, except small calls that have to be measured.

        Args:
            size: of the sample, (H, W) or (T, H, W).
            component: "encoder" or "decoder".
            batch: how many samples.
            memory: the budget, in bytes or such as "8GiB". None: 70 % of the free memory where the engines run.
            exact: look at nothing that approximates.
            output: what becomes of a decoded sample: "float32", "uint8", "device", or "frames" for a clip whose pixels
                the caller does not keep, as with `decode_frames`.
            in_chunks: whether the input of a stream is read chunk by chunk, as `encode_file` reads a clip.
            caller_bytes: host memory that the caller holds during the call.
            complete: look at every strategy, and measure with up to 70 % of the free memory.

        Returns:
            Every strategy that was looked at, and the chosen one: `decision.chosen` is None if nothing fits.

        Raises:
            InputError: a wrong argument, or tiling is enabled. EngineError: no strategy could be measured.
            BackendUnavailable: the backend does not say how much memory its engines take.
        """
        from .preparation import PlannedCall, plan

        wanted = PlannedCall(tuple(size), component, batch, memory, exact, output, in_chunks, caller_bytes, complete)
        return plan(self.opened, self.settings, wanted, may_stream=self._may_stream)

    def calibrate(self, size: Sequence[int], components: Iterable[str] = ()) -> Calibration:
        """Measure what the planner needs for calls of that sample size, (H, W) or (T, H, W); without `components` for
        all of the bundle. The measurements are kept in the cache folder.

        Raises:
            BackendUnavailable: there is nothing to measure. EngineError: no strategy could be measured.
        """
        from .preparation import calibrate

        return calibrate(self.opened, self.settings, size, tuple(components))

    def run_strategy(self, strategy: Strategy, component: str, array: Any, *, specialise: bool | None = None) -> None:
        """Run a component by a strategy on a sample or latents, with any settings, and drop the result: for
        measuring. The frames of a stream are dropped as they come. `specialise`: prepare the engine for this shape, as
        `warmup` does."""
        from .preparation import run_strategy

        run_strategy(self.opened, strategy, component, array, specialise=specialise)

    def warmup(self, shapes: Iterable[Sequence[int]] = (), components: Iterable[str] = ()) -> None:
        """Do everything slow beforehand: run the engines once on zeros for each shape. Without shapes, load them.

        A shape is a sample's, (B, in_channels, ...), for encoder and decoder, or latents', (B, latent_channels, ...),
        for the decoder. `components`: only these, without it all that the bundle holds. With OpenVINO each shape (of a
        tile, with tiles) gets a model of its own, which is faster than the model for every size, and holds the weights
        once more. In bfloat16 it costs 1 to 2.5 dB where it has fewer multiplications (on CPUs without AMX). With
        streaming enabled, the steps of most frames of each stage have such a model, if two of them come between the
        first and the last. If a graph has several engines (TensorRT), its shapes decide which are loaded; without
        shapes none of them is.

        Raises:
            InputError: a shape that is neither.
        """
        from .preparation import warm_up

        chosen = tuple(components) or self.manifest.components
        warm_up(self.opened, self.settings, [tuple(shape) for shape in shapes], chosen, may_stream=self._may_stream)
