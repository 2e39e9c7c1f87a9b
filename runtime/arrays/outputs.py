"""The outputs of `encode` and `decode`, with diffusers' names."""

from dataclasses import dataclass
from typing import Any

from ...tiling.public_place import shown_in
from .padded_latents import PaddedLatents
from .posterior import DiagonalGaussian
from .ran import Ran
from .shown_arrays import array_text

__all__ = ["FROM_ENCODE", "AutoencoderKLOutput", "DecoderOutput", "latents_of"]


@shown_in("latentrt.runtime")
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

    def __repr__(self) -> str:
        return f"AutoencoderKLOutput(latent_dist={self.latent_dist!r}, exact={self.exact})"


@shown_in("latentrt.runtime")
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

    def __repr__(self) -> str:
        return f"DecoderOutput(sample={array_text(self.sample)}, exact={self.exact})"


FROM_ENCODE = (AutoencoderKLOutput, DiagonalGaussian, PaddedLatents)
"""What `encode` gives: `decode` takes the latents of it, and cuts its result to the size that they remember."""


def latents_of(encoded: Any) -> Any:
    """The latents to decode: of an output or a distribution of `encode` the most likely latents, (B, C, ...)."""
    if isinstance(encoded, AutoencoderKLOutput):
        encoded = encoded.latent_dist
    return encoded.mode() if isinstance(encoded, DiagonalGaussian) else encoded
