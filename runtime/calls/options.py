"""The options of one call as values, as the caller gave them."""

from __future__ import annotations  # or the annotation of a generator would import numpy.random

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .cancel_token import CancelToken

__all__ = ["CallOptions", "DecodeOptions", "EncodeOptions", "Progress", "StreamOptions", "without_memory"]

Progress = Callable[[int, int], None]
"""Called with (done, in all): tiles, or batch elements without tiles. It may raise, to stop the call."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CallOptions:
    """What encode and decode have in common.

    Attributes:
        exact: whether a call that would approximate is refused.
        specialise: whether the engine may prepare itself for the shapes of this call, as `CallScope.specialise`.
    """

    output: str = "float32"
    out: NDArray[Any] | None = None
    stream: int | None = None
    causal: bool | None = None
    memory: int | str | None = None
    exact: bool = False
    progress: Progress | None = None
    cancel: CancelToken | None = None
    specialise: bool | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodeOptions(CallOptions):
    """The options of `Autoencoder.encode`.

    Attributes:
        check_range: whether a float sample in 0..255 or 0..1 is refused.
    """

    pad: bool = False
    check_range: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodeOptions(CallOptions):
    """The options of `Autoencoder.decode`.

    Attributes:
        in_groups: whether the result is handed on frame group by frame group, as `decode_frames` does it, so that the
            call never holds all of it as pixels.
        caller_bytes: host memory that the caller holds during the call, for the planner.
    """

    crop: Sequence[int] | None = None
    temb: Any = None
    rng: np.random.Generator | int | None = None
    in_groups: bool = False
    caller_bytes: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamOptions:
    """The options of `decode_stream` and `encode_stream`."""

    frames_per_chunk: int | None = None
    output: str = "float32"
    out: NDArray[Any] | None = None
    stream: int | None = None
    causal: bool | None = None
    temb: Any = None
    rng: np.random.Generator | int | None = None
    cancel: CancelToken | None = None


def without_memory(method: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a method that always tiles.

    Raises:
        InputError: they hold a budget, or `exact`.
    """
    planned = method.removeprefix("tiled_")
    for name in ("memory", "exact"):
        if options.pop(name, None):
            raise InputError(f"{name}: {method} runs the tiles that enable_tiling made; for a plan, call {planned}")
    return options
