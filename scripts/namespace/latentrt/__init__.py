"""LatentRT: the VAE of a diffusion model from checkpoint to production, without PyTorch at run time.

`open_bundle` and the errors are here; the rest stands in the rooms:

    latentrt.runtime    bundle in, arrays out: NumPy and one engine
    latentrt.export     checkpoint in, bundle out: needs PyTorch
    latentrt.tiling     plans and blending: NumPy alone
    latentrt.cli        the command line

Every name below is imported when it is first used, so that `import latentrt` reads nothing else.
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
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
