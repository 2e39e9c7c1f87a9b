"""Plans: the tiles of an array and their weights, as values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .axis import Axis, Span
from .errors import InputError
from .weights import feed_forward_weights, partition_of_unity

__all__ = ["Direction", "Line", "Piece", "Plan", "Tile"]

Direction = Literal["decode", "encode"]
"""Whether latents become samples or samples become latents. Plans are laid out in latent cells in both cases."""


@dataclass(frozen=True, eq=False)
class Piece:
    """One tile along one axis.

    Attributes:
        cells: the latent cells that the tile spans.
        source: the input elements that it reads.
        length: the elements of its result. The first `skip` elements are not used. The next `len(target)` elements
            go to `target`. Elements after these are not used.
        skip: see `length`.
        target: the output elements that it writes to.
        weights: float32, one per target element.
    """

    cells: Span
    source: Span
    length: int
    skip: int
    target: Span
    weights: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Line:
    """The tiles along one axis, in rising order.

    Attributes:
        axis: the axis.
        cells: its length in latent cells.
        source_size: its length in input elements.
        target_size: its length in output elements.
        pieces: the tiles.
    """

    axis: Axis
    cells: int
    source_size: int
    target_size: int
    pieces: tuple[Piece, ...]

    @classmethod
    def of(
        cls,
        axis: Axis,
        cells: int,
        spans: Sequence[Span],
        *,
        direction: Direction,
        feed_forward: bool = False,
        delayed: bool = False,
    ) -> "Line":
        """Make the tiles for some spans of latent cells.

        On an axis with a leading first cell, a model computes the first cell of every tile as if it were the first
        cell of the array. So the element of that cell is skipped in all tiles except the first. A span that is
        shorter than the axis's minimum is widened to the left, and the excess of the result is skipped. A span of
        which nothing remains is dropped.

        Args:
            axis: the axis.
            cells: its length in latent cells.
            spans: the latent cells of each tile, in rising order.
            direction: "decode" or "encode".
            feed_forward: whether the weights are those of diffusers' blending.
            delayed: skip the last element of later tiles instead of the first. This shifts later tiles by one
                element, as diffusers' framewise decoding does.

        Raises:
            InputError: the spans leave a gap, or a tile starts after the usable part of the tile before it.
        """
        decode = direction == "decode"
        pieces: list[Piece] = []
        for span in spans:
            wide = Span(min(span.start, max(0, span.stop - axis.minimum)), span.stop)
            elements = axis.elements(wide)
            begin, length = (elements.start, len(elements)) if decode else (wide.start, len(wide))
            unused = int(axis.leading and span.start > 0)
            wanted = axis.elements(span).start if decode else span.start
            target = Span(wanted + unused, begin + length)
            if len(target) == 0:
                continue
            if target.start > (pieces[-1].target.stop if pieces else 0):
                raise InputError(
                    f"tiling: the {axis.name} tiles leave a gap before element {target.start}; "
                    f"make their stride smaller or the tiles larger"
                )
            skip = wanted - begin + (0 if delayed else unused)
            source = wide if decode else elements
            pieces.append(Piece(wide, source, length, skip, target, np.ones(0, np.float32)))
        targets = [piece.target for piece in pieces]
        weights = (feed_forward_weights if feed_forward else partition_of_unity)(targets)
        pieces = [replace(piece, weights=own) for piece, own in zip(pieces, weights, strict=True)]
        total = axis.length(cells)
        return cls(axis, cells, *((cells, total) if decode else (total, cells)), tuple(pieces))

    @property
    def work(self) -> float:
        """Latent cells that the tiles compute, per latent cell of the axis."""
        return sum(len(piece.cells) for piece in self.pieces) / self.cells

    def cropped(self, size: int) -> "Line":
        """The same tiles for the first `size` elements of the output. Tiles beyond them are dropped."""
        pieces = []
        for piece in self.pieces:
            if piece.target.start < size:
                target = Span(piece.target.start, min(piece.target.stop, size))
                pieces.append(replace(piece, target=target, weights=piece.weights[: len(target)]))
        return replace(self, target_size=size, pieces=tuple(pieces))


@dataclass(frozen=True, eq=False)
class Tile:
    """One tile.

    Attributes:
        index: for each axis, the number of the tile's piece on that axis.
        pieces: for each axis, that piece.
    """

    index: tuple[int, ...]
    pieces: tuple[Piece, ...]

    @cached_property
    def source(self) -> tuple[slice, ...]:
        """The slices of the input's trailing axes that the tile reads."""
        return tuple(piece.source.as_slice() for piece in self.pieces)

    @cached_property
    def source_shape(self) -> tuple[int, ...]:
        """The trailing shape of the tile's input."""
        return tuple(len(piece.source) for piece in self.pieces)

    @cached_property
    def result_shape(self) -> tuple[int, ...]:
        """The trailing shape of the tile's result."""
        return tuple(piece.length for piece in self.pieces)


@dataclass(frozen=True, eq=False)
class Plan:
    """A grid of tiles over the trailing axes of an array.

    Attributes:
        lines: the tiles along each axis.
        feed_forward: whether each tile is blended in place with the blended tile above it and then with the tile on
            its left, as diffusers does. Otherwise the output is the weighted sum of all tiles.
    """

    lines: tuple[Line, ...]
    feed_forward: bool = False

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The number of tiles along each axis."""
        return tuple(len(line.pieces) for line in self.lines)

    @cached_property
    def count(self) -> int:
        """The number of tiles."""
        return math.prod(self.shape)

    @cached_property
    def largest(self) -> tuple[int, ...]:
        """The latent cells of the largest tile along each axis."""
        return tuple(max(len(piece.cells) for piece in line.pieces) for line in self.lines)

    @property
    def source_size(self) -> tuple[int, ...]:
        """The size of the input along each axis, in elements."""
        return tuple(line.source_size for line in self.lines)

    @property
    def target_size(self) -> tuple[int, ...]:
        """The size of the output along each axis, in elements."""
        return tuple(line.target_size for line in self.lines)

    @property
    def work(self) -> float:
        """Latent cells that the tiles compute, per latent cell of the array. 1 means no overlap."""
        return math.prod(line.work for line in self.lines)

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """All tiles. The index of the last axis changes fastest."""
        indices = product(*(range(length) for length in self.shape))
        return tuple(
            Tile(index, tuple(line.pieces[place] for line, place in zip(self.lines, index, strict=True)))
            for index in indices
        )

    @cached_property
    def groups(self) -> tuple[Span, ...]:
        """The output along the first axis, cut where tiles begin.

        Group i is final when all tiles whose first index is at most i are done.
        """
        line = self.lines[0]
        starts = [piece.target.start for piece in line.pieces]
        return tuple(Span(*ends) for ends in zip(starts, [*starts[1:], line.target_size], strict=True))

    def cropped(self, size: Sequence[int]) -> "Plan":
        """The same tiles for the first `size` elements of each output axis."""
        lines = tuple(line.cropped(length) for line, length in zip(self.lines, size, strict=True))
        return replace(self, lines=lines)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values. Spans are [start, stop]."""
        axes = [
            {
                "axis": line.axis.name,
                "latent_cells": line.cells,
                "tiles": [
                    {
                        name: [span.start, span.stop]
                        for name, span in (("cells", piece.cells), ("reads", piece.source), ("writes", piece.target))
                    }
                    for piece in line.pieces
                ],
            }
            for line in self.lines
        ]
        return {"tiles": self.count, "work": self.work, "feed_forward": self.feed_forward, "axes": axes}

    def __repr__(self) -> str:
        return f"<Plan of {self.count} tiles: {self._counts}>"

    @property
    def _counts(self) -> str:
        """The number of tiles along each axis, as text."""
        return ", ".join(f"{count} along {line.axis.name}" for count, line in zip(self.shape, self.lines, strict=True))

    def table(self) -> str:
        """The plan as a text table with one row per tile and axis."""
        rows: list[tuple[str, ...]] = [("axis", "tile", "latent cells", "reads", "writes", "overlap")]
        for line in self.lines:
            previous = 0
            for index, piece in enumerate(line.pieces):
                overlap = str(max(0, previous - piece.target.start)) if index else "-"
                spans = (f"{span.start}-{span.stop}" for span in (piece.cells, piece.source, piece.target))
                rows.append((line.axis.name if index == 0 else "", str(index), *spans, overlap))
                previous = piece.target.stop
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        text = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
        return "\n".join(
            [*text, f"{self.count} tiles ({self._counts}), {self.work:.2f} times the cells of a single pass"]
        )
