"""Names and shapes of all parameters of a model, computed from its config without torch.

Tests compare them with the reference models and with diffusers, for every architecture.
"""

from ....runtime.config.families import loaded
from ....runtime.config.model_config import ModelConfig
from ...families import EXPORTED_FAMILIES
from .family_parameters import FamilyParameters
from .shapes import Shapes

__all__ = ["family_parameters", "parameters_of"]


def family_parameters(config: ModelConfig) -> FamilyParameters:
    """Return the parameters of the config's family."""
    found: FamilyParameters = loaded(__package__, EXPORTED_FAMILIES[config.family].parameters)
    return found


def parameters_of(config: ModelConfig) -> Shapes:
    """Return the shape of every parameter and buffer of the config's model, by its diffusers name."""
    return family_parameters(config).shapes(config)
