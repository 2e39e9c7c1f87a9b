"""The calls that only autoencoders of video models have, as a protocol: code for all families asks for it by
`Autoencoder.clip_calls`, which is None for image models."""

from __future__ import annotations  # or every annotation of a generator would import numpy.random

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..arrays.ran import Ran
from ..calls.strategy import Strategy

__all__ = ["ClipCalls"]


class ClipCalls(Protocol):
    """Clips chunk by chunk. `AutoencoderKLLTX2Video` documents each call and its options."""

    @property
    def streaming(self) -> bool: ...

    @property
    def enable_streaming(self) -> Callable[..., None]: ...

    @property
    def decode_frames(self) -> Callable[..., Iterator[Any]]: ...

    @property
    def decode_stream(self) -> Callable[..., Iterator[Any]]: ...

    @property
    def encode_stream(self) -> Callable[..., Iterator[NDArray[np.float32]]]: ...

    def clip_strategy(
        self, size: Callable[[], Sequence[int]], memory: int | str | None, *, stream: bool, exact: bool = False
    ) -> Strategy: ...

    def encode_chunks(
        self, chunks: Iterable[NDArray[np.float32]], strategy: Strategy
    ) -> Iterator[NDArray[np.float32]]: ...

    def chunks_ran(self, size: Sequence[int], strategy: Strategy) -> Ran: ...
