"""How latents and samples lie on each other along one axis."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Axis", "Span", "trailing"]


@dataclass(frozen=True)
class Span:
    """The elements from `start` up to and without `stop`."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def as_slice(self, origin: int = 0) -> slice:
        """The slice of an array whose first element is element `origin`."""
        return slice(self.start - origin, self.stop - origin)


@dataclass(frozen=True)
class Axis:
    """One trailing axis of latents and of samples.

    `ratio`: sample elements per latent cell. `leading`: the first cell of an array is one element and each later one
    `ratio` elements, as in causal video, where 1 + k latent frames are 1 + ratio * k frames. `minimum`: the fewest
    cells that the tiled function takes.
    """

    name: str
    ratio: int = 1
    leading: bool = False
    minimum: int = 1

    def length(self, cells: int) -> int:
        """The sample elements of an array of that many cells."""
        return (cells - 1) * self.ratio + 1 if self.leading else cells * self.ratio

    def elements(self, cells: Span) -> Span:
        """Where a run of cells, taken as an array of its own, lies among the elements of the whole.

        With `leading` its first cell is one element: the last of the `ratio` elements that this cell is in the whole.
        """
        start = cells.start * self.ratio
        return Span(start, start + self.length(len(cells)))


def trailing(parts: Iterable[slice]) -> Any:
    """The index that takes these parts of an array's last axes, and all of those before them."""
    return (..., *parts)
