"""The output while it is being made: float32 arrays, one per group along the first tiled axis."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .axis import Span, trailing

__all__ = ["Canvas"]

Array = NDArray[np.float32]


class Canvas:
    """Groups are made when a tile first reaches them and handed over when they are final, so that only those in
    between are held. `make(span)` gives the array of a group, (B, C, len(span), ...); what it holds is overwritten."""

    def __init__(self, groups: Sequence[Span], make: Callable[[Span], Array]) -> None:
        self.groups = tuple(groups)
        self._make = make
        self._open: dict[int, Array] = {}

    def at(self, spans: Sequence[Span]) -> Array:
        """A view (B, C, ...) of a block that lies within one group."""
        index = next(index for index, group in enumerate(self.groups) if spans[0].start < group.stop)
        if index not in self._open:
            self._open[index] = self._make(self.groups[index])
        first = spans[0].as_slice(self.groups[index].start)
        part: Array = self._open[index][trailing([first, *(span.as_slice() for span in spans[1:])])]
        return part

    def take(self, index: int) -> Array:
        """Hand over a final group and forget it."""
        return self._open.pop(index)
