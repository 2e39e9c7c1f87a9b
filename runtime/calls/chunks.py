"""Chunks of a clip on their way through a stream, and whether the clip's end is known."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

__all__ = ["Chunk", "with_last"]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some frames of a clip, at least one.

    Attributes:
        frames: (B, C, T, H, W). Between two stages a backend may keep them in a form of its own. Behind the last stage
            they are pixels, uint8 (B, T, H, W, C), if the engine makes these.
        last: whether these are the clip's last frames.
    """

    frames: Any
    last: bool


def with_last(chunks: Iterable[NDArray[np.float32]]) -> Iterator[Chunk]:
    """Chunks with the last one marked. Each chunk is held back until the next one, or the end, has come.

    Raises:
        InputError: there are no frames at all.
    """
    held = None
    for frames in chunks:
        if frames.shape[2] == 0:
            continue
        if held is not None:
            yield Chunk(held, last=False)
        held = frames
    if held is None:
        raise InputError("stream: the iterator ended without a frame; give at least one")
    yield Chunk(held, last=True)
