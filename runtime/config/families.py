"""The families: where the config and the class of each one stand. A new family is one line here.

Modules are named as text and imported when they are first needed: nothing of a family loads before a bundle of it does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ...tiling.plain_text import shown
from ..errors import ConfigError
from .model_config import ModelConfig

__all__ = ["FAMILIES", "Family", "config_class", "config_from_dict", "loaded"]


@dataclass(frozen=True)
class Family:
    """Where the parts of a family stand in the runtime, each as "module:name".

    Attributes:
        config: relative to `latentrt.runtime.config`.
        autoencoder: relative to `latentrt.runtime.autoencoders`.
    """

    config: str
    autoencoder: str


FAMILIES: Mapping[str, Family] = {
    "AutoencoderKL": Family("kl:AutoencoderKLConfig", "autoencoder_kl:AutoencoderKL"),
    "AutoencoderKLFlux2": Family("flux2:AutoencoderKLFlux2Config", "autoencoder_kl_flux2:AutoencoderKLFlux2"),
    "AutoencoderKLLTX2Video": Family("ltx2:AutoencoderKLLTX2VideoConfig", "autoencoder_kl_ltx2:AutoencoderKLLTX2Video"),
}
"""By diffusers' name of the model's class."""


def loaded(package: str, place: str) -> Any:
    """The object at "module:name" in a package."""
    module, _, name = place.partition(":")
    return getattr(import_module(f"{package}.{module}"), name)


def config_class(family: str) -> type[ModelConfig]:
    """The config's class of a family."""
    found: type[ModelConfig] = loaded(__package__, FAMILIES[family].config)
    return found


def config_from_dict(values: Mapping[str, Any]) -> ModelConfig:
    """Make the config of the family that `_class_name` names.

    Raises:
        ConfigError: no or an unknown class name, or a bad field.
    """
    name = values.get("_class_name")
    if not isinstance(name, str) or name not in FAMILIES:
        raise ConfigError(
            f"config: _class_name must be one of {', '.join(FAMILIES)}, got {shown(name)}; "
            f"is this the config.json of another kind of model?"
        )
    return config_class(name).from_dict(values)
