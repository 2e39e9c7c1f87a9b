"""A queue of frames along time, (B, C, T, H, W), between two stages of a stream, and how many a step takes of it."""

from collections import deque
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from ..bundle.graph import Stage
from ..errors import InputError
from ..system.page_memory import own_page_memory

__all__ = ["FrameQueue", "refuse_rest", "step_count"]


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


def step_count(
    waiting: int,
    stage: Stage,
    most: int,
    multiple: int,
    *,
    first: bool,
    last: bool,
    holds_back: bool,
    waits: bool = False,
) -> int:
    """How many of the waiting frames the next step of a stage takes. 0: it waits for more frames.

    The clip's end is a step of its own, as short as possible. All frames that the stage held back come out with it.

    Args:
        waiting: frames that wait.
        stage: the stage.
        most: the most frames of a step; a first step takes more if it would give none otherwise.
        multiple: later steps take a multiple of it, and the first step one frame more.
        first: whether it is the clip's first step.
        last: whether the clip ends with the waiting frames.
        holds_back: whether the stage looks ahead, so that it gives more frames at the clip's end than it takes.
        waits: whether steps between the clip's ends wait for the most frames. They take what is there otherwise.
    """
    begin = int(first and multiple > 1)  # chunks of 1 + a multiple, then of multiples
    least = max(stage.lead, begin + multiple) if first else multiple
    wanted = max(least, most // multiple * multiple) if waits and not first else least
    if waiting < wanted and not last:
        return 0
    count = min(waiting, max(most, least))
    if last and count == waiting > least and holds_back:
        count -= multiple
    return begin + (count - begin) // multiple * multiple if waiting else 0


def refuse_rest(waiting: int, multiple: int) -> NoReturn:
    """Refuse frames that are left when a clip ends.

    Raises:
        InputError: always.
    """
    raise InputError(f"stream: {waiting} frames are left at the end; a clip has 1 + a multiple of {multiple}")


def _cut(part: Any, start: int, stop: int) -> Any:
    return part[:, :, start:stop] if isinstance(part, np.ndarray) else part.frames(start, stop)


def _joined(parts: Sequence[Any]) -> Any:
    if not isinstance(parts[0], np.ndarray):
        return parts[0].joined(parts[1:])
    if len(parts) == 1 and parts[0].flags.c_contiguous:
        return parts[0]
    frames = own_page_memory((*parts[0].shape[:2], sum(part.shape[2] for part in parts), *parts[0].shape[3:]))
    return np.concatenate(parts, axis=2, out=frames)
