"""One step of an exact pass over an image, as a value: what it reads, what it adds, and which rows it needs.

An image model is a chain of such steps, cut where a group norm or attention has to have seen the whole picture. Each
runs tile by tile over what an earlier one left, and its graph says what it computes (export/graphs/strip_graphs.py).
"""

from dataclasses import dataclass

__all__ = ["Segment", "Window"]

_KINDS = ("convolution", "keys", "attention")


@dataclass(frozen=True)
class Window:
    """The rows (or columns) `start` to `stop` of what is there, and how many zeros stand before and behind them."""

    start: int
    stop: int
    zeros_before: int
    zeros_behind: int


@dataclass(frozen=True)
class Segment:
    """The `index`-th step. `source`: the step whose result it reads (-1: the model's own input). `skip`: the one
    whose result it adds, if any.

    `kind`: "convolution"; "keys", whose results are the keys and values of all positions; or "attention", which is
    the step after it. A result has `up` / `down` times the height and width of the source. Rows of the result need
    `before` and `after` rows of the source more than they stand on: zeros, where the picture ends.
    """

    index: int
    kind: str
    source: int
    skip: int | None = None
    up: int = 1
    down: int = 1
    before: int = 0
    after: int = 0

    def __post_init__(self) -> None:
        earlier = range(-1, self.index)
        skip_is_earlier = self.skip is None or self.skip in earlier
        if self.kind not in _KINDS or self.source not in earlier or not skip_is_earlier:
            raise ValueError(f"{self} is not a step of an exact pass")
        if self.up not in (1, 2) or self.down not in (1, 2) or not {self.before, self.after} <= {0, 1}:
            raise ValueError(f"{self} has no such geometry")

    def result_length(self, source_length: int) -> int:
        """How long an axis of the result is."""
        return source_length * self.up // self.down

    def result_within(self, source_length: int) -> int:
        """How long an axis of the result at least is where the source, with what lies around it, is that long."""
        return (source_length - self.before - self.after) * self.up // self.down

    def window(self, start: int, stop: int, source_length: int) -> Window:
        """What rows `start` to `stop` of the result, which stand on whole rows of the source, need of it."""
        first = start * self.down // self.up - self.before
        last = stop * self.down // self.up + self.after
        inside = max(first, 0), min(last, source_length)
        return Window(*inside, inside[0] - first, last - inside[1])
