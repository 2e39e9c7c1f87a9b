"""How latent cells and sample elements correspond along one axis."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Axis", "Span", "trailing"]


@dataclass(frozen=True)
class Span:
    """A run of elements.

    Attributes:
        start: the first element.
        stop: the element after the last one.
    """

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def as_slice(self, origin: int = 0) -> slice:
        """The slice that takes this span from an array whose first element is element `origin`."""
        return slice(self.start - origin, self.stop - origin)


@dataclass(frozen=True)
class Axis:
    """One trailing axis of latents and of samples.

    Attributes:
        name: "height", "width" or "num_frames".
        ratio: sample elements per latent cell.
        leading: whether the first cell of an array stands for one element only, and each later cell for `ratio`
            elements. Causal video is like that: 1 + k latent frames are 1 + ratio * k frames.
        minimum: the fewest cells that the tiled function takes.
    """

    name: str
    ratio: int = 1
    leading: bool = False
    minimum: int = 1

    def length(self, cells: int) -> int:
        """The number of sample elements in an array of `cells` cells."""
        return (cells - 1) * self.ratio + 1 if self.leading else cells * self.ratio

    def elements(self, cells: Span) -> Span:
        """The sample elements of the whole array that a span of cells covers as a separate array.

        With `leading`, the first cell of the separate array stands for one element: the last of the `ratio` elements
        that it stands for in the whole array.
        """
        start = cells.start * self.ratio
        return Span(start, start + self.length(len(cells)))


def trailing(parts: Iterable[slice]) -> Any:
    """The index that takes these parts of an array's last axes and everything along the axes before them."""
    return (..., *parts)
