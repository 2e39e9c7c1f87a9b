"""A queue of frames along time, (B, C, T, H, W), between two stages of a stream."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..system.page_memory import own_page_memory

__all__ = ["FrameQueue"]


class FrameQueue:
    """First in, first out. Arrays are kept as they come, and joined only when frames are taken.

    Frames that a backend keeps on its device are not NumPy arrays. They bring methods to cut and join them (`frames`,
    `joined`).

    Attributes:
        count: the number of frames in the queue.
    """

    def __init__(self) -> None:
        self._parts: deque[Any] = deque()
        self.count = 0

    def put(self, frames: Any) -> None:
        if frames.shape[2]:
            self._parts.append(frames)
            self.count += frames.shape[2]

    def take(self, count: int) -> Any:
        """The first `count` frames, C-contiguous; there must be as many."""
        parts = []
        self.count -= count
        while count:
            part = self._parts.popleft()
            if part.shape[2] > count:
                self._parts.appendleft(_cut(part, count, part.shape[2]))
                part = _cut(part, 0, count)
            parts.append(part)
            count -= part.shape[2]
        return _joined(parts)


def _cut(part: Any, start: int, stop: int) -> Any:
    return part[:, :, start:stop] if isinstance(part, np.ndarray) else part.frames(start, stop)


def _joined(parts: Sequence[Any]) -> Any:
    if not isinstance(parts[0], np.ndarray):
        return parts[0].joined(parts[1:])
    if len(parts) == 1 and parts[0].flags.c_contiguous:
        return parts[0]
    frames = own_page_memory((*parts[0].shape[:2], sum(part.shape[2] for part in parts), *parts[0].shape[3:]))
    return np.concatenate(parts, axis=2, out=frames)
