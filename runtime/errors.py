"""The error tree.

LatentRTError                    every error that LatentRT raises on purpose (defined in tiling/errors.py)
|-- ConfigError                  a model config is missing, contradictory or unsupported
|-- CheckpointError              a source is not a checkpoint, or its tensors are wrong
|-- BundleError                  a bundle is missing, damaged, too new or unsafe
|-- BackendUnavailable           a backend or provider cannot run on this machine
|   `-- MissingExtra             an optional dependency is not installed
|-- EngineError                  a backend failed while it loaded or ran a graph
|   |-- DeviceMemoryError        the GPU has too little free memory for a call
|   `-- SelftestError            an engine does not give the results of the PyTorch reference
|-- InputError                   an array or argument has the wrong rank, size, dtype or content (tiling/errors.py)
|-- MediaError                   a picture, clip or latents file cannot be read or written
|-- OutputError                  an output exists already or cannot be written
`-- Cancelled                    `cancel()` stopped a call
"""

from ..tiling.errors import InputError, LatentRTError
from ..tiling.public_place import shown_in

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
]


@shown_in("latentrt")
class ConfigError(LatentRTError):
    """A model config is missing a field, contradicts itself, or names something unsupported."""


@shown_in("latentrt")
class CheckpointError(LatentRTError):
    """A source is not a checkpoint, it is damaged, or its tensors do not fit its config."""


@shown_in("latentrt")
class BundleError(LatentRTError):
    """A bundle is missing, incomplete, altered, unsafe, or written by a newer version."""


@shown_in("latentrt")
class BackendUnavailable(LatentRTError):
    """The requested backend or provider cannot run on this machine."""


@shown_in("latentrt")
class MissingExtra(BackendUnavailable):
    """An optional dependency is not installed. The message contains the pip command."""


@shown_in("latentrt")
class EngineError(LatentRTError):
    """A backend failed while it loaded or ran a graph."""


@shown_in("latentrt")
class DeviceMemoryError(EngineError):
    """The GPU has too little free memory for a call. The message names the memory needed and the memory free."""


@shown_in("latentrt")
class SelftestError(EngineError):
    """An engine does not give the results of the PyTorch reference for the golden samples of its bundle."""


@shown_in("latentrt")
class MediaError(LatentRTError):
    """A picture, a clip or a latents file cannot be read or written."""


@shown_in("latentrt")
class OutputError(LatentRTError):
    """An output exists already or cannot be written."""


@shown_in("latentrt")
class Cancelled(LatentRTError):
    """Another thread stopped the call with `cancel()`. The autoencoder stays usable."""
