"""LatentRT in diffusers: an opened bundle as the `vae=` of a pipeline. Needs PyTorch and diffusers.

    LatentRTAutoencoder    a bundle that pipelines take as their VAE
    accelerate             exports the VAE of a pipeline to the cache folder, and puts the bundle in its place
    restore                puts the pipeline's own VAE back

Each name is imported when it is first used, so that importing this package imports neither PyTorch nor diffusers. What
tensors, generators and hooks of PyTorch need belongs here; how a bundle runs belongs to `latentrt.runtime`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .accelerate import accelerate, restore
    from .autoencoder import LatentRTAutoencoder

__all__ = ["LatentRTAutoencoder", "accelerate", "restore"]

_MODULES = {"LatentRTAutoencoder": "autoencoder", "accelerate": "accelerate", "restore": "accelerate"}
"""The module of each public name, relative to this package."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    from ...runtime.extras import require

    for library in ("torch", "diffusers"):
        require(library, extra="diffusers")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
