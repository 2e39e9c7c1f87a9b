"""What encode and decode give, with diffusers' names."""

from dataclasses import dataclass
from typing import Any

from .posterior import DiagonalGaussian
from .ran import Ran

__all__ = ["AutoencoderKLOutput", "DecoderOutput"]


@dataclass(frozen=True)
class AutoencoderKLOutput:
    """What `encode` gives. `exact`: whether its numbers are those of a single pass; tiles approximate them. `ran`: how
    the call ran."""

    latent_dist: DiagonalGaussian
    exact: bool = True
    ran: Ran | None = None


@dataclass(frozen=True)
class DecoderOutput:
    """What `decode` gives: `sample` in the form that was asked for. `exact`: whether its numbers are those of a single
    pass; tiles approximate them. `ran`: how the call ran."""

    sample: Any
    exact: bool = True
    ran: Ran | None = None
