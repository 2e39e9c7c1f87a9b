"""What the two families share: opening a bundle, encode, decode, slicing, and the life of the engines."""

from __future__ import annotations  # or every annotation of a generator would import numpy.random

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from . import latents as latents_module
from .arrays import as_input, check_output, pixel_shape, require_finite, to_output
from .backends import choose_backend
from .component import Call
from .config import ModelConfig
from .errors import BundleError, InputError
from .grid import Grid
from .manifest import Graph, Manifest
from .posterior import DiagonalGaussian, generator_from
from .sessions import Sessions

__all__ = ["Autoencoder", "AutoencoderKLOutput", "DecoderOutput"]

Array = NDArray[np.float32]


@dataclass(frozen=True)
class AutoencoderKLOutput:
    """What `encode` gives."""

    latent_dist: DiagonalGaussian


@dataclass(frozen=True)
class DecoderOutput:
    """What `decode` gives: `sample` in the form that was asked for."""

    sample: Any


class Autoencoder:
    """Encode and decode with the engines of a bundle. Made by `open_bundle` or a family's `from_pretrained`.

    Arrays are (B, C, H, W) for images and (B, C, T, H, W) for video. It holds memory: use it as a context manager,
    or call `close`. Threads may share it.
    """

    family: ClassVar[str]
    video: ClassVar[bool]

    def __init__(
        self,
        manifest: Manifest,
        *,
        backend: str = "auto",
        dtype: str = "float32",
        provider: str | None = None,
        threads: int | None = None,
        contexts: int = 1,
        session_options: Mapping[str, Any] | None = None,
    ) -> None:
        chosen = choose_backend(
            manifest,
            backend=backend,
            dtype=dtype,
            provider=provider,
            threads=threads,
            session_options=session_options,
        )
        self._manifest = manifest
        self._dtype = dtype
        self._sessions = Sessions(manifest, chosen, contexts)
        self._slicing = False
        self.grid = Grid.of(manifest.config, video=self.video)

    @classmethod
    def from_pretrained(cls, bundle: str | Path, **options: Any) -> Self:
        """Open a bundle of this family; `options` as in `open_bundle`.

        Raises:
            BundleError: the bundle is damaged, or of the other family.
        """
        manifest = Manifest.open(Path(bundle))
        if manifest.family != cls.family:
            raise BundleError(f"{bundle} holds an {manifest.family}, not an {cls.family}: open it with open_bundle")
        return cls(manifest, **options)

    @property
    def config(self) -> ModelConfig:
        """The model's config, frozen, with the field names of diffusers."""
        return self._manifest.config

    @property
    def backend(self) -> str:
        """The backend and provider that run the engines, such as "onnxruntime:cpu"."""
        return self._sessions.backend.label

    # Encoding and decoding

    def encode(
        self,
        x: Any,
        *,
        pad: bool = False,
        output: str = "float32",
        out: NDArray[Any] | None = None,
        stream: int | None = None,
        causal: bool | None = None,
    ) -> AutoencoderKLOutput:
        """A sample to the distribution of its latents.

        `x`: float32 (B, in_channels, H, W) or (B, in_channels, T, H, W) in [-1, 1]; H and W multiples of the spatial
        ratio, T = 1 + a multiple of the temporal ratio. With `pad` any size is padded at the end of each axis.
        `out`: float32 array for the moments (B, 2 * latent_channels, ...). `causal`: video only, where the graph was
        exported for it.

        Raises:
            InputError: wrong rank, channels, dtype, size or content.
            BundleError: the bundle has no encoder. EngineError, Cancelled: see there.
        """
        with self._sessions.call() as call:
            graph = self._graph("encoder", causal)
            sample = as_input(x, "sample", device=self._sessions.backend.device)
            self._check_axes(sample, "sample", self.config.in_channels)
            if pad:
                if not isinstance(sample, np.ndarray):
                    raise InputError("sample: pad=True needs an array on the host")
                sample = self.grid.pad(sample)
            self.grid.check_sample(sample.shape[2:])
            require_finite(sample, "sample")
            if output == "uint8":
                raise InputError("output='uint8' is for pictures: encode gives moments, as float32 or on the device")
            size = self.grid.latent_size(sample.shape[2:])
            shape = (sample.shape[0], 2 * self.config.latent_channels, *size)
            moments = self._run(call, graph, {"sample": sample}, shape, output=output, out=out, stream=stream)
        return AutoencoderKLOutput(DiagonalGaussian(moments))

    def decode(
        self,
        z: Any,
        *,
        crop: Sequence[int] | None = None,
        output: str = "float32",
        out: NDArray[Any] | None = None,
        stream: int | None = None,
        causal: bool | None = None,
        temb: Any = None,
        rng: np.random.Generator | int | None = None,
    ) -> DecoderOutput:
        """Model latents to a sample.

        `z`: float32 (B, latent_channels, h, w) or (B, latent_channels, t, h, w), raw latents as diffusers' decode
        takes them (`unscale_latents` makes them from diffusion latents). The sample is float32 (B, out_channels, ...)
        of about [-1, 1], not clipped; with `output="uint8"` pixels (B, H, W, C) or (B, T, H, W, C); with
        `output="device"` an object with `__dlpack__` on the engine's device. `out` is a preallocated array for it.
        `crop`: a size (H, W) or (T, H, W) to cut the sample to, after `encode(pad=True)`. `temb`: (B,) timesteps for
        timestep-conditioned decoders. `rng`: for decoders that inject noise.

        Raises:
            InputError: wrong rank, channels, dtype, size or content, or a condition missing or not taken.
            BundleError: the bundle has no decoder. EngineError, Cancelled: see there.
        """
        with self._sessions.call() as call:
            graph = self._graph("decoder", causal)
            latents = as_input(z, "latents", device=self._sessions.backend.device)
            self._check_axes(latents, "latents", self.config.latent_channels)
            self.grid.check_latents(latents.shape[2:])
            require_finite(latents, "latents")
            inputs = {"latents": latents, **self._conditions(latents, temb, rng)}
            size = self.grid.sample_size(latents.shape[2:])
            shape = (latents.shape[0], self.config.out_channels, *size)
            window = self._window(size, crop)
            sample = self._run(call, graph, inputs, shape, output=output, out=out, stream=stream, window=window)
        return DecoderOutput(sample)

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
        of any size comes back in its own size. Further options are `decode`'s."""
        posterior = self.encode(x, pad=pad, causal=encoder_causal).latent_dist
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
        """Diffusion latents (a pipeline's `output_type="latent"`) -> model latents, what `decode` takes."""
        return latents_module.unscale_latents(self._latents(z), self.config)

    # Settings and life

    def enable_slicing(self) -> None:
        """Run one batch element at a time: less memory for large batches, the same result."""
        self._slicing = True

    def disable_slicing(self) -> None:
        self._slicing = False

    def cancel(self) -> None:
        """Stop the calls that run or wait now, from another thread; each raises `Cancelled`."""
        self._sessions.cancel()

    def release(self) -> None:
        """Free the engines' memory; the next call loads them again."""
        self._sessions.release()

    def warmup(self, shapes: Iterable[Sequence[int]] = ()) -> None:
        """Do everything slow beforehand: load the engines, and run them once on zeros for each shape.

        A shape is a sample's, (B, in_channels, ...), which runs encoder and decoder (those that the bundle holds),
        or latents', (B, latent_channels, ...), which runs the decoder.

        Raises:
            InputError: a shape that is neither.
        """
        for component in self._manifest.components:
            self._sessions.component(self._graph(component, None))
        for shape in map(tuple, shapes):
            rank = 5 if self.video else 4
            if len(shape) != rank or shape[1] not in (self.config.in_channels, self.config.latent_channels):
                raise InputError(
                    f"warmup: wanted shapes of samples (B, {self.config.in_channels}, ...) or latents "
                    f"(B, {self.config.latent_channels}, ...) with {rank} axes, got {shape}"
                )
            latent_shape = shape
            if shape[1] == self.config.in_channels:
                self.grid.check_sample(shape[2:])
                latent_shape = (shape[0], self.config.latent_channels, *self.grid.latent_size(shape[2:]))
                if "encoder" in self._manifest.components:
                    self.encode(np.zeros(shape, np.float32))
            if "decoder" in self._manifest.components:
                self.decode(np.zeros(latent_shape, np.float32), **self._neutral_conditions(latent_shape[0]))

    def close(self) -> None:
        """Release everything; further calls raise."""
        self._sessions.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What the families differ in

    def _conditions(self, latents: Any, temb: Any, rng: np.random.Generator | int | None) -> dict[str, Array]:
        """The decoder's further inputs; image decoders take none."""
        if temb is not None:
            raise InputError("temb: this decoder is not timestep-conditioned; call decode without it")
        return {}

    def _neutral_conditions(self, batch: int) -> dict[str, Any]:
        return {}

    # Within

    def _graph(self, name: str, causal: bool | None) -> Graph:
        graphs = [graph for graph in self._manifest.find_graphs(name) if graph.dtype == self._dtype]
        if causal is not None:
            held = ", ".join(str(graph.causal) for graph in graphs)
            graphs = [graph for graph in graphs if graph.causal is causal]
            if not graphs and not self.video:
                raise InputError(f"causal={causal}: {self.family} is an image model and takes no causal")
            if not graphs:
                raise InputError(
                    f"causal={causal}: the bundle's {name} was exported for causal={held} only; "
                    f"export it again with --causal {str(causal).lower()}"
                )
        return graphs[0]

    def _run(
        self,
        call: Call,
        graph: Graph,
        inputs: Mapping[str, Any],
        shape: tuple[int, ...],
        *,
        output: str,
        out: NDArray[Any] | None,
        stream: int | None,
        window: tuple[slice, ...] = (),
    ) -> Any:
        """One engine call, or one per batch element when slicing; the result in the form that was asked for."""
        kept = _window_shape(shape, window)
        check_output(output, out, kept)
        if stream is not None:
            raise InputError(f"stream: the backend {self.backend} takes no stream of the caller's")
        slices = shape[0] if self._slicing and shape[0] > 1 else 1
        if output == "device" and (slices > 1 or window):
            raise InputError("output='device' gives the engine's own result: not with slicing or crop")
        component = self._sessions.component(graph)  # the first call loads it, after everything is checked
        if output == "device":
            return component.run(inputs, call=call, keep_on_device=True)
        direct = output == "float32" and not window
        if slices == 1:
            into = out if direct and out is not None and out.flags.c_contiguous else None
            sample = component.run(inputs, call=call, out=into)
            return to_output(_cropped(sample, window), output, out)
        if out is None:
            out = np.empty(pixel_shape(kept) if output == "uint8" else kept, np.dtype(output))
        for index in range(slices):
            call.check()
            part = slice(index, index + 1)
            target = out[part]
            single = {name: array[part] if name in _BATCHED else array for name, array in inputs.items()}
            into = target if direct and out.flags.c_contiguous else None
            to_output(_cropped(component.run(single, call=call, out=into), window), output, target)
        return out

    def _check_axes(self, array: Any, what: str, channels: int) -> None:
        axes = "(B, C, T, H, W)" if self.video else "(B, C, H, W)"
        if len(array.shape) != (5 if self.video else 4):
            other = " (is it for an image model?)" if self.video and len(array.shape) == 4 else ""
            other = " (is it for a video model?)" if not self.video and len(array.shape) == 5 else other
            raise InputError(f"{what}: {self.family} takes {axes}, got shape {tuple(array.shape)}{other}")
        if array.shape[1] != channels:
            raise InputError(f"{what}: wanted {channels} channels, {axes}, got shape {tuple(array.shape)}")
        if array.shape[0] < 1:
            raise InputError(f"{what}: the batch is empty, got shape {tuple(array.shape)}")

    def _latents(self, z: Any) -> Array:
        latents = as_input(z, "latents")
        self._check_axes(latents, "latents", self.config.latent_channels)
        return latents  # type: ignore[no-any-return]

    def _window(self, size: Sequence[int], crop: Sequence[int] | None) -> tuple[slice, ...]:
        if crop is None or tuple(crop) == tuple(size):
            return ()
        if len(crop) != len(size) or any(not 1 <= keep <= length for keep, length in zip(crop, size, strict=True)):
            raise InputError(
                f"crop: wanted {self.grid.axes} of at least 1 and at most {tuple(size)}, got {tuple(crop)}"
            )
        return tuple(slice(0, keep) for keep in crop)


_BATCHED = ("sample", "latents", "temb")


def _window_shape(shape: tuple[int, ...], window: tuple[slice, ...]) -> tuple[int, ...]:
    return (*shape[:2], *(part.stop for part in window)) if window else shape


def _cropped(sample: Array, window: tuple[slice, ...]) -> Array:
    return sample[(slice(None), slice(None), *window)] if window else sample  # a view: clips are large
