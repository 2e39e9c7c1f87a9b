"""The image VAE of FLUX.2 at run time."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.latents import unscale_latents
from ..config import AutoencoderKLFlux2Config
from .autoencoder_kl import AutoencoderKL

__all__ = ["AutoencoderKLFlux2"]


class AutoencoderKLFlux2(AutoencoderKL):
    """FLUX.2. Arrays are (B, C, H, W).

    Its diffusion latents are packed: (B, 4 * latent_channels, h / 2, w / 2) for model latents (B, latent_channels, h,
    w), of even h and w. The pipeline flattens them further, to (B, h / 2 * w / 2, 4 * latent_channels).
    """

    family = AutoencoderKLFlux2Config.family

    def unscale_latents(self, z: Any) -> NDArray[np.float32]:
        """Diffusion latents (B, 4 * latent_channels, h / 2, w / 2) -> model latents (B, latent_channels, h, w)."""
        assert isinstance(self.config, AutoencoderKLFlux2Config)
        return unscale_latents(self._host_latents(z, self.config.packed_channels), self.config)
