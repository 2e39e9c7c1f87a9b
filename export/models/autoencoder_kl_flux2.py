"""The image VAE of FLUX.2: the networks of `AutoencoderKL`, and the statistics of the packed latents.

Source of the architecture and of the parameter names: diffusers' `AutoencoderKLFlux2`.
"""

import torch
from torch import Tensor, nn

from ...runtime.config.flux2 import AutoencoderKLFlux2Config
from .autoencoder_kl import AutoencoderKL

__all__ = ["AutoencoderKLFlux2"]


class LatentStatistics(nn.Module):
    """Running mean and variance of diffusers' batch norm, (4 * latent_channels,) each. The model does not use them."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))


class AutoencoderKLFlux2(AutoencoderKL):
    """The reference model; the runtime packs and normalises latents."""

    def __init__(self, config: AutoencoderKLFlux2Config) -> None:
        super().__init__(config)
        self.bn = LatentStatistics(config.diffusion_channels)
