"""The calls of video models, declared for every autoencoder.

`open_bundle` gives the class of the bundle's family. These declarations let editors and type checkers see a video
model's calls on its result. An image model refuses them.
"""

from __future__ import annotations  # or every annotation of a generator would import numpy.random

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from ..errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..arrays.kinds import OutputKind
    from ..calls.cancel_token import CancelToken
    from .clip_calls import ClipCalls

__all__ = ["VideoCalls"]


class VideoCalls:
    """The calls that only video models have. The classes of the video models document them."""

    family: ClassVar[str]

    @property
    def clip_calls(self) -> ClipCalls | None:
        """The calls of a video model for code that serves all families, or None."""
        return None

    def decode_stream(
        self,
        z: Any,
        frames_per_chunk: int | None = None,
        *,
        output: OutputKind = "float32",
        out: NDArray[Any] | None = None,
        stream: int | None = None,
        causal: bool | None = None,
        temb: Any = None,
        rng: np.random.Generator | int | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[Any]:
        """Video models: decode chunk by chunk with the numbers of a single pass.

        Raises:
            InputError: this is an image model.
        """
        self._refuse("decode_stream", "call decode")

    def encode_stream(
        self,
        frames: Any,
        frames_per_chunk: int | None = None,
        *,
        causal: bool | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[NDArray[np.float32]]:
        """Video models: encode chunk by chunk with the numbers of a single pass.

        Raises:
            InputError: this is an image model.
        """
        self._refuse("encode_stream", "call encode")

    def enable_streaming(self, frames_per_chunk: int | None = None) -> None:
        """Video models: let `encode` and `decode` work chunk by chunk.

        Raises:
            InputError: this is an image model.
        """
        self._refuse("enable_streaming", "leave it out, or call enable_tiling(exact=True) for large pictures")

    def disable_streaming(self) -> None:
        """Video models: work on whole clips again.

        Raises:
            InputError: this is an image model.
        """
        self._refuse("disable_streaming", "leave it out")

    def _refuse(self, call: str, cure: str) -> NoReturn:
        raise InputError(f"{call} is for video models, and this is {self.family}: {cure}")
