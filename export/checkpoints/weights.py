"""The tensors of a source under their original names, read on demand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..weights.safetensors_file import SafetensorsFile
from .checkpoint import LazyTensor
from .file_kind import weights_kind
from .pickle_file import open_pickle

__all__ = ["Weights", "open_weights"]


@dataclass(frozen=True)
class Weights:
    """The tensors of a source.

    Attributes:
        path: the file of weights, or the index of shards.
        tensors: the tensors by their original names.
        metadata: the `__metadata__` of a safetensors header; empty for other kinds of files.
        notes: assumptions that were made, each the end of a sentence.
        shards: the further files that an index names.
    """

    path: Path
    tensors: Mapping[str, LazyTensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    shards: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the tensors, and their index."""
        return (self.path, *self.shards)


def open_weights(path: Path, *, allow_pickle: bool = False) -> Weights:
    """Open a weights file by its first bytes; its ending may be wrong. Only the header of a safetensors file is read.

    Args:
        path: the file.
        allow_pickle: read the tensors of a pickle.

    Raises:
        CheckpointError: the file is damaged, is a pickle and pickles are not allowed, or is of an unknown kind.
    """
    if weights_kind(path) != "safetensors":
        pickled = open_pickle(path, allowed=allow_pickle)
        return Weights(path, pickled.tensors, notes=pickled.notes)
    file = SafetensorsFile(path)
    tensors = {
        name: LazyTensor(entry.shape, entry.dtype, lambda name=name: file.read(name))  # type: ignore[misc]
        for name, entry in file.items()
    }
    return Weights(path, tensors, file.metadata, file.notes)
