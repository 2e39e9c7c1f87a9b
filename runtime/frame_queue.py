"""Frames that have come and not yet gone, (B, C, T, H, W) along time."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from .pages import own_pages

__all__ = ["FrameQueue"]

Array = NDArray[np.float32]


class FrameQueue:
    """First in, first out. Arrays are kept as they come; only what is taken is put together."""

    def __init__(self) -> None:
        self._parts: deque[Array] = deque()
        self._count = 0

    def __len__(self) -> int:
        """Frames, not arrays."""
        return self._count

    def put(self, frames: Array) -> None:
        if frames.shape[2]:
            self._parts.append(frames)
            self._count += frames.shape[2]

    def take(self, count: int) -> Array:
        """The first `count` frames, C-contiguous; there must be as many."""
        parts = []
        self._count -= count
        while count:
            part = self._parts.popleft()
            if part.shape[2] > count:
                self._parts.appendleft(part[:, :, count:])
                part = part[:, :, :count]
            parts.append(part)
            count -= part.shape[2]
        if len(parts) == 1 and parts[0].flags.c_contiguous:
            return parts[0]
        frames = own_pages((*parts[0].shape[:2], sum(part.shape[2] for part in parts), *parts[0].shape[3:]))
        return np.concatenate(parts, axis=2, out=frames)
