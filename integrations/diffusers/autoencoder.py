"""An opened bundle as a module that diffusers pipelines take as their `vae`."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import diffusers
import torch
from diffusers.configuration_utils import FrozenDict
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput

from ...runtime.autoencoders.autoencoder import Autoencoder
from ...runtime.backends.backend import Backend
from ...runtime.calls.options import Progress
from ...runtime.calls.strategy import WHOLE
from ...runtime.config.model_config import ModelConfig
from ..torch_backend.opening import open_with_torch
from .clips import ClipOptions, decode_clip, encode_clip, streams
from .noise import drawn_seed
from .own_vae import ReplacedVae
from .statistics import add_statistics
from .tensors import TensorPlace, cuda_stream_of, given_tensor

__all__ = ["LatentRTAutoencoder"]


class LatentRTAutoencoder(torch.nn.Module):
    """A bundle as the `vae` of a diffusers pipeline.

    It is a module, because pipelines move, hook and look for modules. It is no `ModelMixin`, so that no pipeline
    replaces it by type. Tensors go in and come out in the dtype and on the device of the input. The engine computes in
    the precision `dtype`, which does not depend on the dtype of the tensors. Results have no gradient.

    Attributes:
        runtime: the opened bundle, an autoencoder of `latentrt.runtime`.
        config: the model's config, as the class of diffusers has it.
        memory: the memory budget of each call, in bytes or such as "8GiB". None plans nothing.
        progress: called during each call with (tiles, batch elements or frames done, in all), or None. It may raise, to
            stop the call.
        replaced: the VAE that `accelerate` replaced by this one, for `restore`.
    """

    def __init__(
        self,
        bundle: str | Path,
        *,
        torch_dtype: torch.dtype = torch.float32,
        dtype: str | torch.dtype = "float32",
        backend: str | Backend = "auto",
        memory: int | str | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> None:
        """Open a bundle.

        Args:
            bundle: the folder of the bundle.
            torch_dtype: the dtype that the module reports; pipelines cast latents to it. `to` changes it.
            dtype: the precision of the computation, "float32", "float16" or "bfloat16".
            backend: as in `open_bundle`, or "torch" for PyTorch. "auto" takes PyTorch where no engine can run, or where
                PyTorch reaches an accelerator and engines do not, unless there is a memory budget.
            memory: the memory budget of each call.
            progress: as the attribute.
            options: further options of `open_bundle`, such as `provider` and `threads`.

        Raises:
            BundleError, BackendUnavailable, InputError: as `open_bundle`.
        """
        super().__init__()
        precision = str(dtype).removeprefix("torch.")
        self.runtime: Autoencoder = open_with_torch(
            bundle, backend=backend, dtype=precision, planned=memory is not None, **options
        )
        self.config = FrozenDict(_diffusers_fields(self.runtime.config))  # type: ignore[no-untyped-call]
        self.memory, self.progress = memory, progress
        self.replaced: ReplacedVae | None = None
        self._streaming: bool | None = None  # None: where the bundle can
        self._frames_per_chunk: int | None = None
        self.register_buffer("_place", torch.zeros((), dtype=torch_dtype), persistent=False)
        add_statistics(self, self.runtime.config)
        if self.video:
            self.spatial_compression_ratio = self.runtime.config.spatial_ratio
            self.temporal_compression_ratio = self.runtime.config.temporal_ratio
        else:  # SDXL's pipelines ask its parameters for the dtype of the decoder
            self.post_quant_conv = torch.nn.Conv2d(1, 1, 1, bias=False, dtype=torch_dtype).requires_grad_(False)

    # What pipelines ask

    _place: torch.Tensor  # holds no values: `to` changes its dtype and device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that pipelines cast latents to. The engine's precision is `runtime.dtype`."""
        return self._place.dtype

    @property
    def device(self) -> torch.device:
        """The device that pipelines move latents to. The engine's device is `runtime.device`."""
        return self._place.device

    @property
    def video(self) -> bool:
        """Whether samples are clips instead of pictures."""
        return self.runtime.video

    # Encoding and decoding

    def encode(self, x: torch.Tensor, causal: bool | None = None, return_dict: bool = True) -> Any:
        """A sample to the distribution of its latents.

        Args:
            x: (B, in_channels, H, W) or (B, in_channels, T, H, W) in [-1, 1].
            causal: for video models whose graph was exported for it. For image models the second argument by position
                is `return_dict`, as in diffusers.
            return_dict: False gives the tuple (distribution,).

        Returns:
            diffusers' `AutoencoderKLOutput`, whose `latent_dist` draws with PyTorch's generators.

        Raises:
            InputError, BundleError, EngineError, Cancelled: as `encode` of the runtime.
        """
        if isinstance(causal, bool) and not self.video:
            return_dict, causal = causal, None
        self._run_hook()
        distribution = DiagonalGaussianDistribution(self._moments(x, causal))
        return AutoencoderKLOutput(latent_dist=distribution) if return_dict else (distribution,)

    def decode(
        self,
        z: torch.Tensor,
        temb: torch.Tensor | None = None,
        causal: bool | None = None,
        return_dict: bool = True,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> Any:
        """Model latents to a sample.

        Args:
            z: (B, latent_channels, h, w) or (B, latent_channels, t, h, w), model latents.
            temb: (B,) timesteps, for timestep-conditioned decoders. For image models the second argument by position is
                `return_dict`, as in diffusers.
            causal: for video models whose graph was exported for it.
            return_dict: False gives the tuple (sample,).
            generator: for decoders that inject noise: it draws the seed of the noise. None: PyTorch's global generator
                draws it, as diffusers does. Other decoders do not use it.

        Returns:
            diffusers' `DecoderOutput`. The sample is (B, out_channels, ...) of about [-1, 1].

        Raises:
            InputError, BundleError, EngineError, Cancelled: as `decode` of the runtime.
        """
        if isinstance(temb, bool) and not self.video:
            return_dict, temb = temb, None
        self._run_hook()
        conditions: dict[str, Any] = {}
        if temb is not None:
            conditions["temb"] = given_tensor(torch.as_tensor(temb, dtype=torch.float32), on_device=False)
        if self.runtime.config.noise_stacks:
            conditions["rng"] = drawn_seed(generator)
        sample = self._sample(z, causal, conditions)
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def tiled_encode(self, x: torch.Tensor, return_dict: bool = True) -> Any:
        """`encode` in tiles, whether or not tiling is enabled."""
        self._run_hook()
        moments = self.runtime.tiled_encode(given_tensor(x, on_device=False), check_range=False).latent_dist.parameters
        distribution = DiagonalGaussianDistribution(TensorPlace.of(x).from_host(moments))
        return AutoencoderKLOutput(latent_dist=distribution) if return_dict else (distribution,)

    def forward(
        self,
        sample: torch.Tensor,
        temb: torch.Tensor | None = None,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ) -> Any:
        """Encode and decode: the mean latents, or with `sample_posterior` latents drawn with the generator."""
        if isinstance(temb, bool) and not self.video:
            temb, sample_posterior = None, temb
        distribution = self.encode(sample).latent_dist
        latents = distribution.sample(generator=generator) if sample_posterior else distribution.mode()
        return self.decode(latents, temb, return_dict=return_dict, generator=generator)

    # Settings

    @property
    def use_tiling(self) -> bool:
        """Whether tiling is enabled."""
        return self.runtime.use_tiling

    @use_tiling.setter
    def use_tiling(self, enabled: bool) -> None:
        self.runtime.use_tiling = enabled

    @property
    def use_slicing(self) -> bool:
        """Whether slicing is enabled."""
        return self.runtime.use_slicing

    @use_slicing.setter
    def use_slicing(self, enabled: bool) -> None:
        self.runtime.use_slicing = enabled

    def enable_tiling(self, *arguments: Any, **options: Any) -> None:
        """Encode and decode in overlapping tiles from now on. The arguments are those of the runtime's class, which
        takes the names of diffusers; pictures of any size also run in exact strips, with `exact=True`."""
        self.runtime.enable_tiling(*arguments, **options)

    def disable_tiling(self) -> None:
        """Encode and decode without tiles again."""
        self.runtime.disable_tiling()

    def enable_slicing(self) -> None:
        """Run one batch element at a time."""
        self.runtime.enable_slicing()

    def disable_slicing(self) -> None:
        """Run all batch elements at once again."""
        self.runtime.disable_slicing()

    def enable_streaming(self, frames_per_chunk: int | None = None) -> None:
        """Run clips chunk by chunk, which is the default for bundles with streaming graphs.

        Raises:
            InputError, BundleError: the decoder cannot stream.
        """
        self.runtime.enable_streaming(frames_per_chunk)
        self.runtime.disable_streaming()  # this class streams by itself
        self._streaming, self._frames_per_chunk = True, frames_per_chunk

    def disable_streaming(self) -> None:
        """Run whole clips at once."""
        self._streaming, self._frames_per_chunk = False, None

    def take_over(self, vae: torch.nn.Module, replaced: ReplacedVae) -> None:
        """Go on in the place of another VAE: with its slicing, its tiling, and its hook if offloading is enabled."""
        hook = getattr(vae, "_hf_hook", None)
        if hook is not None:
            self._hf_hook = hook
        self.use_slicing = bool(getattr(vae, "use_slicing", False))
        self.use_tiling = bool(getattr(vae, "use_tiling", False))
        self.replaced = replaced

    def cancel(self) -> None:
        """Stop every call that runs now, from another thread. Each raises `Cancelled`."""
        self.runtime.cancel()

    def release(self) -> None:
        """Free the engines' memory. The next call loads them again."""
        self.runtime.release()

    def close(self) -> None:
        """Release everything. Further calls raise."""
        self.runtime.close()

    def extra_repr(self) -> str:
        """The opened bundle, for `repr`."""
        return repr(self.runtime)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """Move the module, as PyTorch does it in `to`. A module that leaves its GPU frees the engines' memory."""
        before = self.device.type
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.device.type != before and self.device.type in ("cpu", "meta"):
            self.runtime.release()
        return self

    def _run_hook(self) -> None:
        """Run the hook with which accelerate moves modules: it is set for `forward`, and pipelines call `decode`."""
        hook = getattr(self, "_hf_hook", None)
        if hook is not None and hasattr(hook, "pre_forward"):
            hook.pre_forward(self)

    def _moments(self, x: torch.Tensor, causal: bool | None) -> torch.Tensor:
        calls, runtime = self.runtime.clip_calls, self.runtime
        if calls is not None and x.ndim == 5 and x.shape[2] > 1 and self._streams("encoder", causal):
            return encode_clip(runtime, calls, x, self._clip_options(causal))
        options: dict[str, Any] = {"causal": causal, "memory": self.memory, "progress": self.progress}
        if self._stays_on_device(x):
            moments = runtime.encode(
                given_tensor(x, on_device=True), output="device", stream=cuda_stream_of(x), **options
            ).latent_dist.parameters
            return TensorPlace.of(x).from_device(moments)
        # Pipelines bring pictures to [-1, 1]. A bright picture may have no value below 0.
        encoded = runtime.encode(given_tensor(x, on_device=False), check_range=False, **options)
        return TensorPlace.of(x).from_host(encoded.latent_dist.parameters)

    def _sample(self, z: torch.Tensor, causal: bool | None, conditions: dict[str, Any]) -> torch.Tensor:
        calls, runtime = self.runtime.clip_calls, self.runtime
        if calls is not None and z.ndim == 5:
            return decode_clip(runtime, calls, z, self._clip_options(causal), **conditions)
        options = {"causal": causal, "memory": self.memory, "progress": self.progress, **conditions}
        if self._stays_on_device(z):
            sample = runtime.decode(
                given_tensor(z, on_device=True), output="device", stream=cuda_stream_of(z), **options
            ).sample
            return TensorPlace.of(z).from_device(sample)
        return TensorPlace.of(z).from_host(runtime.decode(given_tensor(z, on_device=False), **options).sample)

    def _stays_on_device(self, tensor: torch.Tensor) -> bool:
        """Whether a call is one engine call on a GPU, in the tensor's stream. Other calls go through the host."""
        in_one_pass = self.runtime.settings == WHOLE and self.memory is None and not self.video
        takes_stream = self.runtime.opened.backend.capabilities.callers_stream
        on_first = tensor.is_cuda and tensor.device.index in (None, 0)  # the GPU that engines run on by default
        return on_first and self.runtime.device == "cuda" and takes_stream and in_one_pass

    def _streams(self, component: str, causal: bool | None) -> bool:
        if self._streaming is False or self.memory is not None or self.use_tiling:
            return False
        return streams(self.runtime, component, causal)

    def _clip_options(self, causal: bool | None) -> ClipOptions:
        return ClipOptions(self._streams("decoder", causal), self._frames_per_chunk, self.memory, causal, self.progress)


def _diffusers_fields(config: ModelConfig) -> dict[str, Any]:
    """The fields of a config that the class of diffusers has. Ours has some more, such as the statistics of latents
    that are buffers there."""
    fields = config.to_dict()
    kind = getattr(diffusers, config.family, None)
    if kind is None:  # a diffusers that is older than the family
        return fields
    known = inspect.signature(kind.__init__).parameters
    return {name: value for name, value in fields.items() if name.startswith("_") or name in known}
