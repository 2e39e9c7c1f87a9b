"""The output while tiles are blended into it: one float32 array per group along the first tiled axis."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .axis import Span, trailing

__all__ = ["Canvas"]

Array = NDArray[np.float32]


class Canvas:
    """The groups of the output.

    A group's array is made when the first tile reaches it, and handed over when it is final. So only the groups in
    between take memory.
    """

    def __init__(self, groups: Sequence[Span], make: Callable[[Span], Array]) -> None:
        """Prepare the groups. `make(span)` returns the float32 array (B, C, len(span), ...) of a group, whose content
        is overwritten."""
        self.groups = tuple(groups)
        self._make = make
        self._open: dict[int, Array] = {}

    def at(self, spans: Sequence[Span]) -> Array:
        """A view (B, C, ...) of a block within one group. `spans`: one per tiled axis."""
        index = next(index for index, group in enumerate(self.groups) if spans[0].start < group.stop)
        if index not in self._open:
            self._open[index] = self._make(self.groups[index])
        first = spans[0].as_slice(self.groups[index].start)
        part: Array = self._open[index][trailing([first, *(span.as_slice() for span in spans[1:])])]
        return part

    def take(self, index: int) -> Array:
        """Hand over the array of a final group and forget it."""
        return self._open.pop(index)
