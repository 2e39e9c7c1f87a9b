"""The image VAE of FLUX.2 at run time."""

from ...tiling.public_place import shown_in
from ..config.flux2 import AutoencoderKLFlux2Config
from .autoencoder_kl import AutoencoderKL

__all__ = ["AutoencoderKLFlux2"]


@shown_in("latentrt.runtime")
class AutoencoderKLFlux2(AutoencoderKL):
    """FLUX.2. Arrays are (B, C, H, W).

    Its diffusion latents are packed: (B, 4 * latent_channels, h / 2, w / 2) for model latents (B, latent_channels, h,
    w), of even h and w. The pipeline flattens them further, to (B, h / 2 * w / 2, 4 * latent_channels).
    """

    family = AutoencoderKLFlux2Config.family
