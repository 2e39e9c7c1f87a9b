"""The outputs of `encode` and `decode`, with diffusers' names."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from ...tiling.public_place import shown_in
from .padded_latents import PaddedLatents
from .posterior import DiagonalGaussian
from .ran import Ran
from .shown_arrays import array_text

__all__ = ["FROM_ENCODE", "AutoencoderKLOutput", "DecoderOutput", "IndexedOutput", "latents_of"]


class IndexedOutput:
    """An output whose first field is its result. As an output of diffusers it has length 1, can be unpacked, and is
    indexed by place or by name.

    With `return_dict=False` a call gives the plain tuple. For type checkers that is an output too: what code does with
    the tuple, the output can do.
    """

    __slots__ = ()

    def to_tuple(self) -> tuple[Any, ...]:
        """The result alone, as a tuple."""
        return (getattr(self, self._result_name()),)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_tuple())

    def __getitem__(self, key: int | slice | str) -> Any:
        if isinstance(key, str):
            if key != self._result_name():
                raise KeyError(key)
            return self.to_tuple()[0]
        return self.to_tuple()[key]

    def _result_name(self) -> str:
        return fields(self)[0].name  # type: ignore[arg-type] # every subclass is a dataclass


@shown_in("latentrt.runtime")
@dataclass(frozen=True)
class AutoencoderKLOutput(IndexedOutput):
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
class DecoderOutput(IndexedOutput):
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
