"""The tensors of a source under their original names, read on demand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...runtime.errors import CheckpointError
from ..weights.safetensors_file import SafetensorsFile
from .checkpoint import LazyTensor
from .pickle_file import PICKLE_ENDINGS, open_pickle

__all__ = ["SAFETENSORS_ENDINGS", "Weights", "open_weights"]

SAFETENSORS_ENDINGS = (".safetensors", ".sft")


@dataclass(frozen=True)
class Weights:
    """The tensors of a source.

    Attributes:
        path: the file of weights, or the index of shards.
        tensors: the tensors by their original names.
        metadata: the `__metadata__` of a safetensors header; empty for other kinds of files.
    """

    path: Path
    tensors: Mapping[str, LazyTensor]
    metadata: Mapping[str, str] = field(default_factory=dict)


def open_weights(path: Path, *, allow_pickle: bool = False) -> Weights:
    """Open a weights file by its ending. Only the header of a safetensors file is read.

    Args:
        path: the file.
        allow_pickle: let torch read the tensors of a pickle.

    Raises:
        CheckpointError: the file is damaged, is a pickle and pickles are not allowed, or is of an unknown kind.
    """
    if path.suffix in PICKLE_ENDINGS:
        return Weights(path, open_pickle(path, allowed=allow_pickle))
    if path.suffix not in SAFETENSORS_ENDINGS:
        raise CheckpointError(
            f"{path} is a file of an unknown kind ({path.suffix or 'no ending'}): give safetensors weights "
            f"({', '.join(SAFETENSORS_ENDINGS)}), a diffusers folder or a Flax folder"
        )
    file = SafetensorsFile(path)
    tensors = {
        name: LazyTensor(entry.shape, entry.dtype, lambda name=name: file.read(name))  # type: ignore[misc]
        for name, entry in file.items()
    }
    return Weights(path, tensors, file.metadata)
