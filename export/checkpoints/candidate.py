"""What a format gives: a VAE that was found in a source, before its config and tensors are checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .checkpoint import CONFIG_BESIDE, LazyTensor

__all__ = ["Candidate", "Missing"]


@dataclass(frozen=True)
class Missing:
    """Config fields that only the user can give, and the sentence that asks for them."""

    fields: tuple[str, ...]
    sentence: str


@dataclass(frozen=True)
class Candidate:
    """`fields` is a config in diffusers' JSON form, `tensors` has diffusers' names; the rest as in `Checkpoint`."""

    source: Path
    fields: Mapping[str, Any]
    tensors: Mapping[str, LazyTensor]
    format: str
    variant: str = ""
    notes: tuple[str, ...] = ()
    question: str = CONFIG_BESIDE
    missing: Missing | None = None
