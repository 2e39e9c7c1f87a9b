"""The image VAE at run time."""

from .autoencoder import Autoencoder
from .config import AutoencoderKLConfig

__all__ = ["AutoencoderKL"]


class AutoencoderKL(Autoencoder):
    """Stable Diffusion, SDXL, SD3, FLUX.1. Arrays are (B, C, H, W)."""

    family = AutoencoderKLConfig.family
    video = False
