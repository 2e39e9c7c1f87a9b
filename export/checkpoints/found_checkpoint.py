"""A VAE that was found in a source, before its config and its tensors are checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .checkpoint import CONFIG_QUESTION, LazyTensor

__all__ = ["FoundCheckpoint", "MissingFields"]


@dataclass(frozen=True)
class MissingFields:
    """Config fields that only the user can give.

    Attributes:
        fields: names of the fields.
        sentence: the message that asks for them.
    """

    fields: tuple[str, ...]
    sentence: str


@dataclass(frozen=True)
class FoundCheckpoint:
    """The contents of a source, unchecked.

    Attributes:
        source: the folder or file.
        fields: the config in diffusers' JSON form.
        tensors: the tensors by their diffusers names.
        format: as in `Checkpoint`.
        variant: as in `Checkpoint`.
        notes: as in `Checkpoint`.
        question: as in `Checkpoint`.
        missing: config fields that the source does not determine; None if there are none.
        files: as in `Checkpoint`.
    """

    source: Path
    fields: Mapping[str, Any]
    tensors: Mapping[str, LazyTensor]
    format: str
    variant: str = ""
    notes: tuple[str, ...] = ()
    question: str = CONFIG_QUESTION
    missing: MissingFields | None = None
    files: tuple[Path, ...] = ()
