"""What all autoencoders share: encode and decode."""

from __future__ import annotations  # or every annotation of a generator would import numpy.random

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.kinds import OutputKind
from ..arrays.outputs import AutoencoderKLOutput, DecoderOutput
from ..arrays.posterior import DiagonalGaussian, chosen_rng, generator_from
from ..calls.options import DecodeOptions, EncodeOptions, without_memory
from ..errors import InputError
from .call_settings import CallSettings
from .latent_scaling import LatentScaling
from .video_calls import VideoCalls

if TYPE_CHECKING:
    from ..calls.cancel_token import CancelToken
    from ..calls.options import Progress

__all__ = ["Autoencoder"]

Array = NDArray[np.float32]


class Autoencoder(LatentScaling, CallSettings, VideoCalls):
    """Encode and decode with the engines of a bundle. Made by `open_bundle` or a family's `from_pretrained`.

    Arrays are (B, C, H, W) for images and (B, C, T, H, W) for video. The calls take the arguments of diffusers' calls
    too: an output can be indexed as a tuple, and `return_dict=False` gives a tuple.
    """

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
        return_dict: bool = True,
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
            output, stream, memory, exact, cancel, return_dict: as for `decode`, except that `output` is not "uint8".

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
        encoded = AutoencoderKLOutput(DiagonalGaussian(moments, job.original_size), ran.exact, ran)
        return encoded if return_dict else encoded.to_tuple()  # type: ignore[return-value] # see IndexedOutput

    def decode(
        self,
        z: Any,
        temb: Any = None,
        *,
        crop: Sequence[int] | None = None,
        output: OutputKind = "float32",
        out: NDArray[Any] | None = None,
        stream: int | None = None,
        causal: bool | None = None,
        rng: np.random.Generator | int | None = None,
        generator: np.random.Generator | int | None = None,
        memory: int | str | None = None,
        exact: bool = False,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        return_dict: bool = True,
    ) -> DecoderOutput:
        """Model latents to a sample.

        Args:
            z: float32 (B, latent_channels, h, w) or (B, latent_channels, t, h, w): raw latents, as diffusers' decode
                takes them. `unscale_latents` makes them from diffusion latents. Of an output of `encode` the most
                likely latents.
            temb: (B,) timesteps, for timestep-conditioned decoders.
            crop: a size (H, W) or (T, H, W) to cut the sample to. None: the size that latents of `encode(pad=True)`
                remember, if they do.
            output: "float32", "uint8" or "device", see below.
            out: an array for the sample, for instance a memory-mapped one.
            stream: a CUDA stream of the caller's, in which the engine runs.
            causal: for video models whose graph was exported for it.
            rng: a generator or a seed, for decoders that inject noise. `generator` is diffusers' name for it.
            memory: what the process may hold for the call, in bytes or such as "8GiB": the engine and its library,
                input, activations and result. The planner takes the fastest way that fits, an exact one if one fits;
                the output's `exact` says so. It measures a few small calls the first time, which takes seconds.
                Without `memory` nothing is planned, unless the call might not fit into 70 % of the free memory. With
                tiling enabled `memory` is refused; with streaming enabled it chooses the chunks.
            exact: refuse a call that would approximate. With `memory` the message names the least exact budget.
            progress: called with (tiles or batch elements done, in all). It may raise, to stop the call.
            cancel: a `CancelToken` that stops this call; `Autoencoder.cancel` stops every call.
            return_dict: False gives the tuple (sample,) instead of the output.

        Returns:
            The sample, float32 (B, out_channels, ...) of about [-1, 1], not clipped. With `output="uint8"` it is pixels
            (B, H, W, C) or (B, T, H, W, C), with `output="device"` an object with `__dlpack__` on the engine's device.

        Raises:
            InputError: a wrong argument, or nothing fits into `memory`; the message says what would fit.
            BundleError: the bundle has no decoder. EngineError, Cancelled: see there.
        """
        if isinstance(temb, bool):  # diffusers' decode of image models takes return_dict there
            temb, return_dict = None, temb
        options = DecodeOptions(
            crop=crop,
            output=output,
            out=out,
            stream=stream,
            causal=causal,
            temb=temb,
            rng=rng if generator is None else chosen_rng(rng, generator),
            memory=memory,
            exact=exact,
            progress=progress,
            cancel=cancel,
        )
        job = self.opened.jobs.decode(z, self.settings, options, may_stream=self._may_stream)
        sample, ran = self.opened.run(job, options)
        decoded = DecoderOutput(sample, ran.exact, ran)
        return decoded if return_dict else decoded.to_tuple()  # type: ignore[return-value] # see IndexedOutput

    def tiled_encode(self, x: Any, *, return_dict: bool = True, **options: Any) -> AutoencoderKLOutput:
        """`encode` in tiles, whether or not tiling is enabled: with the settings that `enable_tiling` made last, or
        its defaults. The options are those of `encode`, except `memory`."""
        chosen = EncodeOptions(**without_memory("tiled_encode", options))
        job = self.opened.jobs.encode(x, replace(self.settings, tiling=self._tiling), chosen, gated=False)
        moments, ran = self.opened.run(job, chosen)
        encoded = AutoencoderKLOutput(DiagonalGaussian(moments, job.original_size), ran.exact, ran)
        return encoded if return_dict else encoded.to_tuple()  # type: ignore[return-value] # see IndexedOutput

    def tiled_decode(self, z: Any, temb: Any = None, *, return_dict: bool = True, **options: Any) -> DecoderOutput:
        """`decode` in tiles, whether or not tiling is enabled: with the settings that `enable_tiling` made last, or
        its defaults. The options are those of `decode`, except `memory`."""
        if isinstance(temb, bool):
            temb, return_dict = None, temb
        rng = chosen_rng(options.pop("rng", None), options.pop("generator", None))
        chosen = DecodeOptions(temb=temb, rng=rng, **without_memory("tiled_decode", options))
        strategy = replace(self.settings, tiling=self._tiling, streaming=False, frames_per_chunk=None)
        sample, ran = self.opened.run(self.opened.jobs.decode(z, strategy, chosen, gated=False), chosen)
        decoded = DecoderOutput(sample, ran.exact, ran)
        return decoded if return_dict else decoded.to_tuple()  # type: ignore[return-value] # see IndexedOutput

    def __call__(
        self,
        x: Any,
        sample_posterior: bool = False,
        *,
        rng: np.random.Generator | int | None = None,
        generator: np.random.Generator | int | None = None,
        pad: bool = False,
        encoder_causal: bool | None = None,
        decoder_causal: bool | None = None,
        **decode_options: Any,
    ) -> DecoderOutput:
        """Encode and decode: the mean latents, or with `sample_posterior` latents drawn with `rng` (or `generator`, as
        diffusers names it). With `pad` a sample
        of any size comes back in its own size. Further options are `decode`'s; `memory`, `exact` and `cancel` are for
        both."""
        from ..calls.round_trip import check_round_trip

        both = {name: decode_options[name] for name in ("memory", "exact", "cancel") if name in decode_options}
        rng = chosen_rng(rng, generator)
        if sample_posterior and rng is None:
            raise InputError("sample_posterior=True needs rng: a numpy.random.Generator or a seed")
        if rng is not None:
            rng = generator_from(rng)  # one stream for the latents and then, if the decoder takes it, for the noise
        encoding = EncodeOptions(pad=pad, causal=encoder_causal, exact=bool(both.get("exact")))
        returned = {"return_dict": decode_options.pop("return_dict", True)}
        decoding = DecodeOptions(causal=decoder_causal, rng=None if rng is None else 0, **decode_options)
        check_round_trip(self.opened.jobs, x, self.settings, encoding, decoding, may_stream=self._may_stream)
        posterior = self.encode(x, pad=pad, causal=encoder_causal, **both).latent_dist
        latents = posterior.sample(rng) if rng is not None and sample_posterior else posterior.mode()
        if posterior.original_size is not None:
            decode_options.setdefault("crop", posterior.original_size)
        return self.decode(latents, rng=rng, causal=decoder_causal, **decode_options, **returned)
