"""Names and shapes of every parameter of a model, from its config alone: the check needs no torch.

Tests compare these with the reference models and with diffusers, for every architecture.
"""

from ...runtime.config import ImageConfig, ModelConfig
from .kl_parameters import kl_parameters
from .ltx2_parameters import ltx2_parameters
from .shapes import Shapes

__all__ = ["parameters_of"]


def parameters_of(config: ModelConfig) -> Shapes:
    """Every parameter and buffer of the config's model, by diffusers' name."""
    if isinstance(config, ImageConfig):
        return kl_parameters(config)
    return ltx2_parameters(config)
