"""The PyTorch reference models: the export traces them, and the tests compare every backend with them."""

from torch import nn

from ...runtime.config import AutoencoderKLConfig, AutoencoderKLFlux2Config, ModelConfig
from .autoencoder_kl import AutoencoderKL
from .autoencoder_kl_flux2 import AutoencoderKLFlux2
from .autoencoder_kl_ltx2 import AutoencoderKLLTX2Video

__all__ = ["AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderKLLTX2Video", "model_from_config"]


def model_from_config(config: ModelConfig) -> nn.Module:
    """Return the reference model of the config's family, with fresh weights, in evaluation mode."""
    if isinstance(config, AutoencoderKLConfig):
        return AutoencoderKL(config).eval()
    if isinstance(config, AutoencoderKLFlux2Config):
        return AutoencoderKLFlux2(config).eval()
    return AutoencoderKLLTX2Video(config).eval()
