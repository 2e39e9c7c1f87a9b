"""Model configs as frozen, validated values; numbers that change pixels are never guessed."""

from collections.abc import Mapping
from typing import Any

from ...tiling.plain_text import shown
from ..errors import ConfigError
from .flux2 import AutoencoderKLFlux2Config
from .image import ACTIVATIONS, ImageConfig
from .kl import AutoencoderKLConfig, MissingScalingFactor
from .ltx2 import SAMPLING_STRIDES, AutoencoderKLLTX2VideoConfig, NoiseStack

__all__ = [
    "ACTIVATIONS",
    "SAMPLING_STRIDES",
    "AutoencoderKLConfig",
    "AutoencoderKLFlux2Config",
    "AutoencoderKLLTX2VideoConfig",
    "ImageConfig",
    "MissingScalingFactor",
    "ModelConfig",
    "NoiseStack",
    "config_from_dict",
]

ModelConfig = AutoencoderKLConfig | AutoencoderKLFlux2Config | AutoencoderKLLTX2VideoConfig
_FAMILIES: dict[str, type[AutoencoderKLConfig | AutoencoderKLFlux2Config | AutoencoderKLLTX2VideoConfig]] = {
    config.family: config for config in (AutoencoderKLConfig, AutoencoderKLFlux2Config, AutoencoderKLLTX2VideoConfig)
}


def config_from_dict(values: Mapping[str, Any]) -> ModelConfig:
    """Make the config of the family that `_class_name` names.

    Raises:
        ConfigError: no or an unknown class name, or a bad field.
    """
    name = values.get("_class_name")
    if not isinstance(name, str) or name not in _FAMILIES:
        raise ConfigError(
            f"config: _class_name must be one of {', '.join(_FAMILIES)}, got {shown(name)}; "
            f"is this the config.json of another kind of model?"
        )
    return _FAMILIES[name].from_dict(values)
