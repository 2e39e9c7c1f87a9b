"""Makes the PyTorch reference model of a config."""

from torch import nn

from ...runtime.config.families import loaded
from ...runtime.config.model_config import ModelConfig
from ..families import EXPORTED_FAMILIES

__all__ = ["model_from_config"]


def model_from_config(config: ModelConfig) -> nn.Module:
    """Return the reference model of the config's family, with fresh weights, in evaluation mode."""
    model: nn.Module = loaded(__package__, EXPORTED_FAMILIES[config.family].model)(config)
    return model.eval()
