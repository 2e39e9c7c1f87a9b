"""The statistics of latents as a module, which ComfyUI's nodes for LTX use directly."""

import torch

from ...runtime.arrays.latents import mean_and_factor
from ...runtime.config.model_config import ModelConfig

__all__ = ["ChannelStatistics"]


class ChannelStatistics(torch.nn.Module):
    """Turns model latents into normalised ones and back, on any device and in the latents' dtype.

    ComfyUI's *LTXV Latent Upsampler* calls it as `vae.first_stage_model.per_channel_statistics`. The buffers have the
    names that LTX checkpoints give them.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        mean, factor = mean_and_factor(config, 2)
        self.register_buffer("mean-of-means", torch.from_numpy(mean.reshape(-1).copy()).float(), persistent=False)
        self.register_buffer("std-of-means", torch.from_numpy(1 / factor.reshape(-1)).float(), persistent=False)

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        """Model latents (B, C, ...) to normalised latents."""
        return (x - self._along(x, "mean-of-means")) / self._along(x, "std-of-means")

    def un_normalize(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised latents (B, C, ...) to model latents."""
        return x * self._along(x, "std-of-means") + self._along(x, "mean-of-means")

    def _along(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return self.get_buffer(name).to(x).view(1, -1, *[1] * (x.ndim - 2))
