"""The parameters of a model, from its config alone: the check of a checkpoint needs no torch.

Tests compare the shapes with the reference models and with diffusers, for every architecture.
"""

from ...runtime.config.families import loaded
from ...runtime.config.model_config import ModelConfig
from ..families import EXPORTED_FAMILIES
from .family_parameters import FamilyParameters
from .shapes import Shapes

__all__ = ["family_parameters", "parameters_of"]


def family_parameters(config: ModelConfig) -> FamilyParameters:
    """What is known about the parameters of the config's family."""
    found: FamilyParameters = loaded(__package__, EXPORTED_FAMILIES[config.family].parameters)
    return found


def parameters_of(config: ModelConfig) -> Shapes:
    """The shape of every parameter and buffer of the config's model, by diffusers' name."""
    return family_parameters(config).shapes(config)
