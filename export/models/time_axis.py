"""The time axis of the video VAE: a whole clip at once, or a stream of chunks with a state per layer.

Only convolutions over three frames mix values over time. So a clip can run in chunks with the same numbers: each
convolution keeps the last two frames of its input as its state, and a path parallel to a convolution is delayed by the
same number of frames. A non-causal convolution needs the next frame, so its result is one frame late. At the end of the
clip it returns the frame that is left.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

__all__ = ["Delayed", "Stream", "StreamWindow", "TimeAxis", "WholeClip"]


class TimeAxis(Protocol):
    """The operations over time that a layer needs. Arrays are (B, C, T, H, W)."""

    def window(self, hidden: Tensor, stride: int) -> Tensor:
        """Return the frames over which a convolution of three taps and that stride runs, with its padding."""

    def delayed(self, hidden: Tensor, frames: int) -> Tensor:
        """Return the frames that correspond to the result of `frames` convolutions in sequence."""

    def first_twice(self, hidden: Tensor) -> Tensor:
        """Return the frames with the first frame of the clip repeated."""

    def without_first(self, hidden: Tensor) -> Tensor:
        """Return the frames without the first frame of the clip."""


class WholeClip:
    """The time axis of a clip in one piece.

    Attributes:
        causal: True repeats the first frame twice in front; False repeats the first and the last frame once.
    """

    def __init__(self, causal: bool) -> None:
        self.causal = causal

    def window(self, hidden: Tensor, stride: int) -> Tensor:
        first = hidden[:, :, :1]
        frames = [first, first, hidden] if self.causal else [first, hidden, hidden[:, :, -1:]]
        return torch.cat(frames, dim=2)

    def delayed(self, hidden: Tensor, frames: int) -> Tensor:
        return hidden

    def first_twice(self, hidden: Tensor) -> Tensor:
        return torch.cat([hidden[:, :, :1], hidden], dim=2)

    def without_first(self, hidden: Tensor) -> Tensor:
        return hidden[:, :, 1:]


class StreamWindow(nn.Module):
    """Builds the input of a convolution for one chunk: frames of the state, the chunk, and padding at a clip's ends.

    `state` (B, C, 2, H, W) holds the last two frames of the previous input; the first chunk ignores it. `first` and
    `last` are 1 for the first and the last chunk of a clip, otherwise 0.

    Causal: the first frame stands twice in front of the first chunk. The two frames of the state stand in front of
    later chunks, or only the second frame if the stride is 2. With a stride of 2, the first chunk must have an odd
    number of frames, and later chunks an even number. Not causal: the first frame stands once in front of the first
    chunk, the two frames of the state stand in front of later chunks, and the last frame stands once behind the last
    chunk.
    """

    def __init__(self, causal: bool, stride: int = 1) -> None:
        super().__init__()
        self.causal = causal
        self.stride = stride

    @property
    def head(self) -> tuple[int, int]:
        """Offset and factor of the index of the first frame of the state that stands in front of a chunk.

        The frames of the state from index `head[0] + head[1] * first` on stand in front of the chunk. In front of the
        first chunk, copies of its first frame stand for them.
        """
        return (self.stride - 1, 1 - self.stride) if self.causal else (0, 1)

    def forward(self, state: Tensor, chunk: Tensor, first: int, last: int) -> Tensor:
        start = self.head[0] + self.head[1] * first
        front = [chunk[:, :, :1]] * (2 - start) if first else [state[:, :, start:]]
        ending = [] if self.causal or not last else [chunk[:, :, -1:]]
        return torch.cat([*front, chunk, *ending], dim=2)


class Delayed(nn.Module):
    """Delays a path by as many frames as the convolutions parallel to it.

    `joined` is the state's two frames and the chunk behind them. The result starts `frames` (1 or 2) frames before the
    chunk and ends as many before its end. The result of a clip's first chunk starts with the chunk, and that of the
    last chunk ends with it.
    """

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, joined: Tensor, first: int, last: int) -> Tensor:
        late = self.frames * (1 - last)
        return joined[:, :, 2 - self.frames + self.frames * first : joined.shape[2] - late]


class Stream(nn.Module):
    """The time axis of one chunk: it reads the state of each layer and writes the next, in the order of the layers.

    Exactly one operation reads a state, and the next state is a slice of its result, so both may use the same memory.
    A stream is made once for its module. `begin` starts a chunk, and `states` then collects the next states. Without
    states, `begin` starts from zeros.
    """

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.windows = nn.ModuleList(StreamWindow(causal, stride) for stride in (1, 2))
        self.delays = nn.ModuleList(Delayed(frames) for frames in (1, 2))
        self.begin([], 0, 0)

    def begin(self, states: Iterable[Tensor] | None, first: int, last: int) -> None:
        """Start a chunk.

        Args:
            states: the state of each layer, (B, C, 2, H, W); None starts from zeros.
            first: 1 for the first chunk of a clip, otherwise 0.
            last: 1 for the last chunk of a clip, otherwise 0.
        """
        self._before: Iterator[Tensor] | None = None if states is None else iter(states)
        self._first, self._last = first, last
        self.states: list[Tensor] = []

    def window(self, hidden: Tensor, stride: int) -> Tensor:
        window = self.windows[stride - 1](self._state(hidden), hidden, self._first, self._last)
        self.states.append(window[:, :, -2:])
        return window

    def delayed(self, hidden: Tensor, frames: int) -> Tensor:
        if self.causal:
            return hidden
        joined = torch.cat([self._state(hidden), hidden], dim=2)
        self.states.append(joined[:, :, -2:])
        return self.delays[frames - 1](joined, self._first, self._last)

    def first_twice(self, hidden: Tensor) -> Tensor:
        return torch.cat([hidden[:, :, : self._first], hidden], dim=2)

    def without_first(self, hidden: Tensor) -> Tensor:
        return hidden[:, :, self._first :]

    def _state(self, hidden: Tensor) -> Tensor:
        if self._before is not None:
            return next(self._before)
        batch, channels, _, height, width = hidden.shape
        return hidden.new_zeros((batch, channels, 2, height, width))
