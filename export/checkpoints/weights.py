"""The tensors of a source by the names that they have there, each read when it is needed."""

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
    """`metadata` is what the file's header says beside the tensors (safetensors: strings)."""

    path: Path
    tensors: Mapping[str, LazyTensor]
    metadata: Mapping[str, str] = field(default_factory=dict)


def open_weights(path: Path, *, allow_pickle: bool = False) -> Weights:
    """Open a weights file by its ending; of a safetensors file only the header is read.

    Raises:
        CheckpointError: the file is damaged, is a pickle that was not allowed, or is of no known kind.
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
