"""How the layers of the video VAE see time: a whole clip at once, or chunk after chunk with what they remember.

All mixing over time in this model is convolution with three taps, so a clip can be run in chunks with the same
numbers: each convolution keeps the last two frames it saw, and paths beside a convolution are delayed as it is. A
non-causal convolution needs the frame after, so its output is one frame late; at the end of the clip it catches up.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

__all__ = ["Delayed", "Stream", "TimeAxis", "WholeClip", "Window"]


class TimeAxis(Protocol):
    """What a layer asks of time. Arrays are (B, C, T, H, W)."""

    def window(self, hidden: Tensor, stride: int) -> Tensor:
        """The frames that a convolution of three taps and that stride runs over, its padding included."""

    def delayed(self, hidden: Tensor, frames: int) -> Tensor:
        """The frames that belong beside the result of `frames` convolutions one after the other."""

    def first_twice(self, hidden: Tensor) -> Tensor:
        """With the clip's first frame repeated."""

    def without_first(self, hidden: Tensor) -> Tensor:
        """Without the clip's first frame."""


class WholeClip:
    """The clip in one piece. `causal`: its first frame stands twice in front; otherwise its first and last at the
    ends."""

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


class Window(nn.Module):
    """A convolution's window over one chunk: what it remembers, the chunk, and at the end of a clip the last frame
    again. `state` holds two frames, whatever they are in the first chunk; `first` and `last` are 0 or 1.

    Causal: the first chunk has its first frame twice in front, later ones the two frames of the state (one, if the
    convolution's stride is 2: then chunks bring an even number of frames, the first one an odd number). Not causal:
    the first chunk has its first frame once in front.
    """

    def __init__(self, causal: bool, stride: int = 1) -> None:
        super().__init__()
        self.causal = causal
        self.stride = stride

    @property
    def head(self) -> tuple[int, int]:
        """Of state and first frame, three frames in all, those from `head[0] + head[1] * first` up to the second one
        stand in front of the chunk; in the first chunk all of them are the first frame."""
        return (self.stride - 1, 1 - self.stride) if self.causal else (0, 1)

    def forward(self, state: Tensor, chunk: Tensor, first: int, last: int) -> Tensor:
        start = self.head[0] + self.head[1] * first
        front = [chunk[:, :, :1]] * (2 - start) if first else [state[:, :, start:]]
        ending = [] if self.causal or not last else [chunk[:, :, -1:]]
        return torch.cat([*front, chunk, *ending], dim=2)


class Delayed(nn.Module):
    """Of the state's two frames and the chunk behind them, those that stand beside the result of `frames` (1 or 2)
    convolutions: that many frames late, and at the end of a clip all that are left."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, joined: Tensor, first: int, last: int) -> Tensor:
        late = self.frames * (1 - last)
        return joined[:, :, 2 - self.frames + self.frames * first : joined.shape[2] - late]


class Stream(nn.Module):
    """One chunk of a clip: reads each layer's state and writes its next one, in the order in which layers run. One
    operation reads a state, and the next one is cut out of its result, so that both may lie in the same memory.

    A stream is made once for its module; `begin` starts a chunk and `states` is what it leaves. Begun without states
    it starts from zeros, whose shapes are then those of `states`.
    """

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.windows = nn.ModuleList(Window(causal, stride) for stride in (1, 2))
        self.delays = nn.ModuleList(Delayed(frames) for frames in (1, 2))
        self.begin([], 0, 0)

    def begin(self, states: Iterable[Tensor] | None, first: int, last: int) -> None:
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
