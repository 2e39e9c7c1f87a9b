"""LatentRT: the VAE of a diffusion model from checkpoint to production, without PyTorch at run time.

This package has `open_bundle`, the errors and `__version__`. Everything else is in its subpackages:

    latentrt.runtime    from a bundle to arrays; needs NumPy and one engine
    latentrt.export     from a checkpoint to a bundle; needs PyTorch
    latentrt.tiling     plans of tiles, and blending; needs NumPy
    latentrt.cli        the command line
    latentrt.integrations   the runtime in other programs, such as ComfyUI

Each name is imported when it is first used, so `import latentrt` imports nothing else.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .runtime import (
        BackendUnavailable,
        BundleError,
        Cancelled,
        CheckpointError,
        ConfigError,
        DeviceMemoryError,
        EngineError,
        InputError,
        LatentRTError,
        MediaError,
        MissingExtra,
        OutputError,
        SelftestError,
        open_bundle,
    )

    __version__: str

__all__ = [
    "BackendUnavailable",
    "BundleError",
    "Cancelled",
    "CheckpointError",
    "ConfigError",
    "DeviceMemoryError",
    "EngineError",
    "InputError",
    "LatentRTError",
    "MediaError",
    "MissingExtra",
    "OutputError",
    "SelftestError",
    "__version__",
    "open_bundle",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("latentrt")
    elif name == "open_bundle":
        from .runtime import open_bundle as value
    elif name in __all__:
        from .runtime import errors

        value = getattr(errors, name)
    else:
        return _by_former_name(name)
    globals()[name] = value
    return value


def _by_former_name(name: str) -> Any:
    """The value of a name that was replaced, with a warning at each use."""
    from .former_names import FORMER_NAMES

    former = FORMER_NAMES.get(name)
    if former is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import warnings

    warnings.warn(former.sentence, FutureWarning, stacklevel=3)
    return __getattr__(former.instead.rpartition(".")[2])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
