"""The family and the latent statistics, which a manifest holds next to the config, for readers of other programs."""

from collections.abc import Mapping
from typing import Any

from ..config.model_config import ModelConfig

__all__ = ["STATISTICS", "check_statistics", "latent_statistics"]

STATISTICS = ("family", "latent_statistics")
"""The keys of the manifest."""
_FIELDS = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")


def latent_statistics(config: ModelConfig) -> dict[str, Any]:
    """The object under "latent_statistics"."""
    return {name: getattr(config, name) for name in _FIELDS}


def check_statistics(config: ModelConfig, values: Mapping[str, Any]) -> None:
    """Refuse a manifest whose "family" or "latent_statistics" are not those of its config: one of the two is damaged.

    Raises:
        ValueError: they differ.
    """
    if values.get("family", config.family) != config.family:
        raise ValueError("family and config name different classes")
    given = values.get("latent_statistics", {})
    if not isinstance(given, dict):
        raise ValueError("latent_statistics is no object")
    for name, own in latent_statistics(config).items():
        stored = given.get(name, own)
        if (tuple(stored) if isinstance(stored, list) else stored) != own:
            raise ValueError(f"{name} differs between latent_statistics and config")
