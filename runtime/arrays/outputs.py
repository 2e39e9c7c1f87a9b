"""The outputs of `encode` and `decode`, with diffusers' names."""

from dataclasses import dataclass
from typing import Any

from .posterior import DiagonalGaussian
from .ran import Ran

__all__ = ["AutoencoderKLOutput", "DecoderOutput"]


@dataclass(frozen=True)
class AutoencoderKLOutput:
    """The output of `encode`.

    Attributes:
        latent_dist: the distribution of the latents.
        exact: whether the numbers equal those of a single pass. Tiles approximate them.
        ran: how the call ran.
    """

    latent_dist: DiagonalGaussian
    exact: bool = True
    ran: Ran | None = None


@dataclass(frozen=True)
class DecoderOutput:
    """The output of `decode`.

    Attributes:
        sample: in the form that `output=` and `out=` chose: a float32 sample (B, C, H, W) or (B, C, T, H, W), nominally
            in [-1, 1], uint8 pixels (B, H, W, C) or (B, T, H, W, C), or a sample on the engine's device.
        exact: whether the numbers equal those of a single pass. Tiles approximate them.
        ran: how the call ran.
    """

    sample: Any
    exact: bool = True
    ran: Ran | None = None
