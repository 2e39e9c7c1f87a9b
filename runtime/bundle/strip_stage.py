"""One stage of a pass in strips over an image, as a value: what the stage reads, what it adds and which rows it needs.

An image model is a chain of such stages, cut at each group norm and each attention, which need the whole picture. A
stage runs strip by strip over the result of an earlier stage. Its graph computes the result
(export/graphs/strip_graphs.py).
"""

from dataclasses import dataclass

__all__ = ["PaddedRange", "StripStage"]

_MOST_STAGES = 10_000  # far above every model
_KINDS = ("convolution", "keys", "attention")


@dataclass(frozen=True)
class PaddedRange:
    """Rows (or columns) `start` to `stop` of a picture, and the number of zeros before and behind them."""

    start: int
    stop: int
    zeros_before: int
    zeros_behind: int


@dataclass(frozen=True)
class StripStage:
    """A stage of a pass in strips.

    Attributes:
        index: the stage's number in the order in which the stages run, from 0.
        kind: "convolution"; "keys", whose results are the keys and values of all positions; or "attention", which is
            the stage after "keys".
        source: the index of the stage whose result this stage reads; -1 for the model's own input.
        skip: the index of the stage whose result this stage adds, or None.
        up, down: the result has up / down times the height and width of the source.
        before, after: rows of the source that a row of the result needs above and below the rows that it stands on.
            Outside the picture these rows are zeros.
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
        numbers = (self.index, self.source, self.up, self.down, self.before, self.after)
        whole = all(type(number) is int for number in numbers) and type(self.skip) in (int, type(None))
        if not whole or not 0 <= self.index < _MOST_STAGES:
            raise ValueError(f"{self} is no stage of a pass in strips")
        earlier = range(-1, self.index)
        skip_is_earlier = self.skip is None or self.skip in earlier
        if self.kind not in _KINDS or self.source not in earlier or not skip_is_earlier:
            raise ValueError(f"{self} is no stage of a pass in strips")
        if self.up not in (1, 2) or self.down not in (1, 2) or not {self.before, self.after} <= {0, 1}:
            raise ValueError(f"{self} has no such geometry")

    def result_length(self, source_length: int) -> int:
        """The length of an axis of the result."""
        return source_length * self.up // self.down

    def result_within(self, source_length: int) -> int:
        """The least length of an axis of the result for a source of this length, the rows around it included."""
        return (source_length - self.before - self.after) * self.up // self.down

    def window(self, start: int, stop: int, source_length: int) -> PaddedRange:
        """The rows of the source that rows `start` to `stop` of the result need. The rows of the result stand on whole
        rows of the source."""
        first = start * self.down // self.up - self.before
        last = stop * self.down // self.up + self.after
        inside = max(first, 0), min(last, source_length)
        return PaddedRange(*inside, inside[0] - first, last - inside[1])
