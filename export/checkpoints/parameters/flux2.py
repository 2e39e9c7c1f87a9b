"""The image VAE of FLUX.2: the parameters of `AutoencoderKL`, and the batch norm of its packed latents."""

from ....runtime.config.flux2 import AutoencoderKLFlux2Config
from .family_parameters import FamilyParameters
from .kl import kl_parameters
from .shapes import Shapes

__all__ = ["FLUX2", "flux2_parameters"]

_STATISTICS = {"bn.running_mean": "bn_running_mean", "bn.running_var": "bn_running_var"}


def flux2_parameters(config: AutoencoderKLFlux2Config) -> Shapes:
    """Every parameter and buffer of the model by diffusers' name."""
    return kl_parameters(config) | dict.fromkeys(_STATISTICS, (config.diffusion_channels,))


FLUX2 = FamilyParameters(flux2_parameters, _STATISTICS, lambda config: "FLUX.2")
