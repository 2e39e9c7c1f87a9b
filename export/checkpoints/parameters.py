"""Names and shapes of all parameters of a model, computed from its config without torch.

Tests compare them with the reference models and with diffusers, for every architecture.
"""

from ...runtime.config import ImageConfig, ModelConfig
from .kl_parameters import kl_parameters
from .ltx2_parameters import ltx2_parameters
from .shapes import Shapes

__all__ = ["parameters_of"]


def parameters_of(config: ModelConfig) -> Shapes:
    """Return the shape of every parameter and buffer of the config's model, by its diffusers name."""
    if isinstance(config, ImageConfig):
        return kl_parameters(config)
    return ltx2_parameters(config)
