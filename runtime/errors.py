"""The error tree.

LatentRTError                    anything this package refuses to do (defined in tiling/errors.py, as is InputError)
|-- ConfigError                  a model config that is missing, contradictory or unsupported
|-- CheckpointError              a source that is not a checkpoint, or whose tensors are wrong
|-- BundleError                  a bundle that is missing, damaged, too new or unsafe
|-- BackendUnavailable           a backend or provider that cannot run here
|   `-- MissingExtra             an optional dependency that is not installed
|-- EngineError                  a backend that failed while running
|-- InputError                   an array of the wrong rank, size, dtype or content
|-- MediaError                   a picture, clip or latents file that cannot be read or written
|-- OutputError                  an output that exists already or cannot be written
`-- Cancelled                    a call that `cancel()` stopped
"""

from ..tiling.errors import InputError, LatentRTError

__all__ = [
    "BackendUnavailable",
    "BundleError",
    "Cancelled",
    "CheckpointError",
    "ConfigError",
    "EngineError",
    "InputError",
    "LatentRTError",
    "MediaError",
    "MissingExtra",
    "OutputError",
]


class ConfigError(LatentRTError):
    """A model config is missing a field, contradicts itself, or names something unsupported."""


class CheckpointError(LatentRTError):
    """A source is not a checkpoint, is damaged, or its tensors do not fit its config."""


class BundleError(LatentRTError):
    """A bundle is missing, incomplete, altered, unsafe, or written by a newer version."""


class BackendUnavailable(LatentRTError):
    """A backend or provider that was asked for cannot run on this machine."""


class MissingExtra(BackendUnavailable):
    """An optional dependency is not installed; the message holds the pip line."""


class EngineError(LatentRTError):
    """A backend failed while it loaded or ran a graph."""


class MediaError(LatentRTError):
    """A picture, a clip or a latents file cannot be read or written."""


class OutputError(LatentRTError):
    """An output exists already or cannot be written."""


class Cancelled(LatentRTError):
    """The call was stopped by `cancel()` from another thread; the autoencoder stays usable."""
