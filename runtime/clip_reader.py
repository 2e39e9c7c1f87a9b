"""Clips in: a video file, a folder of pictures or a `.npy` array, frame by frame."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, MediaError
from .pictures import PICTURE_ENDINGS, list_pictures, read_picture
from .pixels import to_pixels
from .video_reader import VideoReader

__all__ = ["CLIP_ENDINGS", "ClipReader", "open_clip"]

CLIP_ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".gif")


class ClipReader(Protocol):
    """A context manager and an iterator of frames, uint8 (H, W, C) in [0, 255]; each frame belongs to the caller.

    Iteration runs once, from the first frame, and holds one frame at a time.

    Attributes:
        frame_rate: frames per second, or None where the source has none.
        frame_count: exact where it is known without reading the clip, else None.
        height: in pixels, the same for all frames.
        width: in pixels, the same for all frames.
    """

    @property
    def frame_rate(self) -> Fraction | None: ...
    @property
    def frame_count(self) -> int | None: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def __iter__(self) -> Iterator[NDArray[np.uint8]]: ...
    def __next__(self) -> NDArray[np.uint8]: ...
    def close(self) -> None: ...
