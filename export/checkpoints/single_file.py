"""One file with a VAE in it, alone or among other models: which one, and in whose names."""

from pathlib import Path

from ...runtime.errors import CheckpointError
from .candidate import Candidate
from .weights import open_weights

__all__ = ["open_single_file"]


def open_single_file(path: Path, *, allow_pickle: bool = False) -> Candidate:
    """Find the VAE in a file.

    Raises:
        CheckpointError: there is none that is known.
    """
    weights = open_weights(path, allow_pickle=allow_pickle)
    raise CheckpointError(f"{weights.path} is a file; this version reads diffusers folders")
