"""What ComfyUI calls `vae.first_stage_model`: samples in [-1, 1] to ComfyUI's latents and back, in torch's tensors."""

import copy
import threading
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...runtime.autoencoders.autoencoder import Autoencoder
from ...runtime.errors import InputError
from .call_watch import CallWatch
from .channel_statistics import ChannelStatistics
from .latent_space import LatentSpace
from .tile_sizes import TileSizes

__all__ = ["FirstStageModel"]

_DECODE_TIMESTEP = 0.05  # ComfyUI's default for decoders that take timesteps
_DECODE_NOISE_SCALE = 0.025  # ComfyUI's default share of noise for the same decoders


class FirstStageModel(torch.nn.Module):
    """An opened bundle as the inner model of a ComfyUI VAE. It has no weights of its own.

    Attributes:
        autoencoder: the opened bundle.
        space: ComfyUI's latents of this model.
        memory: the budget of a call that is not tiled, such as "8GiB", or None.
        exact_tiles: whether calls with tiles run in exact strips or as an exact stream instead.
        decode_timestep, decode_noise_scale: for decoders that take timesteps. Nodes may set them.
        per_channel_statistics: the statistics of the latents, if the model has them.
    """

    def __init__(self, autoencoder: Autoencoder, *, memory: str | None = None, exact_tiles: bool = False) -> None:
        super().__init__()
        self.autoencoder, self.memory, self.exact_tiles = autoencoder, memory, exact_tiles
        self.space = LatentSpace.of(autoencoder.config)
        self.decode_timestep, self.decode_noise_scale = _DECODE_TIMESTEP, _DECODE_NOISE_SCALE
        self.timestep_conditioning = autoencoder.config.timestep_conditioning
        if self.space.normalised:
            self.per_channel_statistics = ChannelStatistics(autoencoder.config)
        self._lock = threading.RLock()  # tiling is a setting of the autoencoder, which one call at a time may change

    def __deepcopy__(self, memo: dict[int, Any]) -> "FirstStageModel":
        """A copy that shares the engines, for nodes that copy a VAE to change a setting."""
        return copy.copy(self)

    def decode(
        self,
        z: torch.Tensor,
        timestep: float | None = None,
        noise_scale: float | None = None,
        *,
        seed: int = 0,
        tiles: TileSizes | None = None,
    ) -> torch.Tensor:
        """Latents to a sample.

        Args:
            z: (B, C, h, w), or (B, C, t, h, w) for clips, of any dtype on any device.
            timestep, noise_scale: for decoders that take timesteps; None for `decode_timestep`, `decode_noise_scale`.
            seed: of the noise, for decoders that take timesteps or inject noise.
            tiles: run in such tiles.

        Returns:
            float32 on the CPU, (B, C, H, W) or (B, C, T, H, W), of about [-1, 1], not clipped.

        Raises:
            LatentRTError: see `Autoencoder.decode`. InterruptProcessingException: the user interrupts.
        """
        latents, conditions = self.model_latents(z, timestep, noise_scale, seed=seed)
        frames = latents.shape[2] if self.space.temporal is not None else 1
        with CallWatch() as watch:
            options: dict[str, Any] = {"progress": watch.progress, "cancel": watch.cancel, **conditions}
            if tiles is None:
                decoded = self.autoencoder.decode(latents, memory=self.memory, **options)
            else:
                decoded = self._tiled("decoder", tiles, frames, latents, options)
        return torch.from_numpy(decoded.sample)

    def encode(self, x: torch.Tensor, *, tiles: TileSizes | None = None) -> torch.Tensor:
        """A sample to the mean latents.

        Args:
            x: (B, C, H, W), or (B, C, T, H, W) for clips, in [-1, 1], of any dtype on any device.
            tiles: run in such tiles.

        Returns:
            float32 latents of ComfyUI on the CPU, (B, C, h, w) or (B, C, t, h, w).

        Raises:
            LatentRTError: see `Autoencoder.encode`. InterruptProcessingException: the user interrupts.
        """
        sample = _host_array(x)
        frames = self.space.latent_frames(sample.shape[2]) if self.space.temporal is not None else 1
        with CallWatch() as watch:
            options: dict[str, Any] = {"progress": watch.progress, "cancel": watch.cancel}
            if tiles is None:
                encoded = self.autoencoder.encode(sample, memory=self.memory, **options)
            else:
                encoded = self._tiled("encoder", tiles, frames, sample, options)
        latents = encoded.latent_dist.mode()
        scaled = self.autoencoder.scale_latents(latents) if self.space.normalised else latents
        return torch.from_numpy(np.ascontiguousarray(scaled))

    def model_latents(
        self, z: torch.Tensor, timestep: float | None = None, noise_scale: float | None = None, *, seed: int = 0
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """What the runtime decodes for these latents of ComfyUI: model latents, float32, and the decoder's other inputs
        `temb` and `rng`. The arguments are those of `decode`."""
        config = self.autoencoder.config
        if z.ndim != (4 if self.space.temporal is None else 5) or z.shape[1] != self.space.channels:
            axes = "(B, {}, h, w)" if self.space.temporal is None else "(B, {}, t, h, w)"
            wanted = axes.format(self.space.channels)
            raise InputError(
                f"latents: {config.family} wants {wanted}, got {tuple(z.shape)}: connect latents of the same model"
            )
        conditions: dict[str, Any] = {}
        if self.timestep_conditioning:
            scale = self.decode_noise_scale if noise_scale is None else noise_scale
            z = z.float()
            noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed)).to(z)
            z = noise * scale + (1.0 - scale) * z
            value = self.decode_timestep if timestep is None else timestep
            conditions["temb"] = np.full(z.shape[0], value, np.float32)
        if config.noise_stacks:
            conditions["rng"] = seed
        latents = _host_array(z)
        return (self.autoencoder.unscale_latents(latents) if self.space.normalised else latents), conditions

    def estimate_bytes(self, component: str, cells: int) -> int:
        """An estimate of the activations of one pass over this many latent cells of ComfyUI, in bytes."""
        return int(self.autoencoder.config.pass_memory(component).peak * cells * self.space.packed**2 * 4)

    def _tiled(
        self, component: str, tiles: TileSizes, frames: int, array: NDArray[np.float32], options: dict[str, Any]
    ) -> Any:
        vae: Any = self.autoencoder
        with self._lock:
            if self.exact_tiles and vae.video and component == "decoder":
                vae.enable_streaming()
                try:
                    return vae.decode(array, **options)
                finally:
                    vae.reset_streaming()
            if self.exact_tiles and not vae.video:
                vae.enable_tiling(exact=True)
            else:
                vae.enable_tiling(**tiles.arguments(vae.config, component, self.space, frames))
            vae.disable_tiling()  # for calls without tiles; the settings stay for the calls below
            return (vae.tiled_decode if component == "decoder" else vae.tiled_encode)(array, **options)


def _host_array(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
    return array
