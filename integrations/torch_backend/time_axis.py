"""The time axis of one chunk, for PyTorch itself: a state holds its two frames, and nothing of the chunk."""

from collections.abc import Iterable

import torch
from torch import Tensor

from ...export.models.time_axis import Stream

__all__ = ["EagerStream"]


class EagerStream(Stream):
    """`Stream` with states that own their memory. The exporter's states are slices of each layer's whole input, which
    would be held until the next chunk.

    Args:
        causal: as `Stream`.
        states: the state of each layer; None starts from zeros.
        first, last: 1 for the first and the last chunk of a clip, otherwise 0.
        keeps: whether the next states are kept. After the last chunk no layer needs them.
        in_place: whether the next states may be written over `states`.
    """

    def __init__(
        self,
        causal: bool,
        states: Iterable[Tensor] | None,
        first: int,
        last: int,
        *,
        keeps: bool = True,
        in_place: bool = False,
    ) -> None:
        super().__init__(causal)
        self._keeps, self._in_place = keeps, in_place and states is not None
        self.begin(states, first, last)

    def window(self, hidden: Tensor, stride: int) -> Tensor:
        state = self._state(hidden)
        window: Tensor = self.windows[stride - 1](state, hidden, self._first, self._last)
        self._keep(window, state)
        return window

    def delayed(self, hidden: Tensor, frames: int) -> Tensor:
        if self.causal:
            return hidden
        state = self._state(hidden)
        joined = torch.cat([state, hidden], dim=2)
        self._keep(joined, state)
        result: Tensor = self.delays[frames - 1](joined, self._first, self._last)
        return result

    def _keep(self, joined: Tensor, state: Tensor) -> None:
        """Keep the last two frames of a layer's input, which is a copy and not a view of the state."""
        if not self._keeps:
            return
        after = joined[:, :, -2:]
        if self._in_place and state.shape == after.shape and state.dtype == after.dtype:
            self.states.append(state.copy_(after))
        else:
            self.states.append(after.clone(memory_format=torch.contiguous_format))
