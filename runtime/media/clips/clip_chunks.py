"""Reading a clip as samples, a few frames at a time, for encoding in constant memory."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...arrays.grid import Grid
from ...arrays.pixels import to_samples
from ...errors import MediaError
from ..alpha import WHITE, Background
from .clip_reader import open_clip

__all__ = ["MOST_BYTES", "ClipChunks"]

MOST_BYTES = 1 << 28
"""What the samples of a chunk may take, in bytes. A chunk of 8 frames of 2176x3840 would take 800 MB."""


class ClipChunks:
    """An iterable over the chunks of a clip, float32 (1, C, t, H, W) in [-1, 1].

    The clip is padded to the model's grid by repeating its last row, column and frame. The attributes describe the
    clip before padding. They are set when the iteration starts.

    Attributes:
        frames: how many frames have been read.
        frame_count: how many frames the clip has. None if the file does not say so.
        height: in pixels.
        width: in pixels.
        frame_rate: frames per second. None if the clip has none.
        sample_aspect_ratio: a pixel's width over its height. None for square pixels.
    """

    def __init__(
        self,
        path: Path,
        channels: int,
        grid: Grid,
        check: Callable[[], None] = lambda: None,
        *,
        background: Background = WHITE,
        matrix: str | None = None,
        max_pixels: int | None = None,
    ) -> None:
        """Prepare to read a clip.

        Args:
            path: see `open_clip`.
            channels: see `open_clip`.
            grid: the model's grid.
            check: called before each frame. It may raise to stop the reading.
            background: see `open_clip`.
            matrix: see `open_clip`.
            max_pixels: see `open_clip`.
        """
        self._grid, self._check, self._channels = grid, check, channels
        self._open = partial(open_clip, path, channels, background=background, matrix=matrix, max_pixels=max_pixels)
        self._path = path
        self.frames = self.height = self.width = 0
        self.frame_rate: Fraction | None = None
        self.sample_aspect_ratio: Fraction | None = None
        self.frame_count: int | None = None

    def padded_size(self) -> tuple[int, int, int]:
        """The size (T, H, W) of all chunks together.

        If the file does not say how many frames it has, all frames are decoded to count them.

        Raises:
            MediaError: the file is missing or damaged, or is no clip.
        """
        with self._open() as clip:
            count = clip.frame_count
            if count is None:
                count = 0
                for _ in clip:
                    self._check()
                    count += 1
            size = (max(count, 1), clip.height, clip.width)
        return self._grid.padded_size(size)  # type: ignore[return-value] # three in, three out

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Read the clip from its start.

        Raises:
            MediaError: the file is missing or damaged, is no clip, or has no frames.
        """
        ratio = self._grid.temporal
        with self._open() as clip:
            self.frames, self.height, self.width = 0, clip.height, clip.width
            self.frame_rate, self.frame_count = clip.frame_rate, clip.frame_count
            self.sample_aspect_ratio = clip.sample_aspect_ratio
            held: list[NDArray[np.uint8]] = []
            frame_bytes = 4 * self._channels * clip.height * clip.width
            most = min(ratio, max(MOST_BYTES // frame_bytes, 1))
            for frame in clip:
                self._check()
                held.append(frame)
                self.frames += 1
                if len(held) == most:
                    yield self._samples(held)
                    held = []
        if not self.frames:
            raise MediaError(f"{self._path} holds no frames: give another clip")
        missing = -(self.frames - 1) % ratio
        held += [held[-1] if held else frame] * missing
        size = most if most < ratio else max(len(held), 1)
        for start in range(0, len(held), size):
            yield self._samples(held[start : start + size])

    def _samples(self, frames: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        samples = to_samples(np.stack(frames)[np.newaxis])
        size = self._grid.padded_size((1, self.height, self.width))[1:]
        after = [(0, wanted - length) for wanted, length in zip(size, (self.height, self.width), strict=True)]
        return np.pad(samples, [(0, 0), (0, 0), (0, 0), *after], mode="edge") if any(map(any, after)) else samples
