"""Plans: which tiles an array is cut into and how their results are put together, as values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
"""Whether latents become samples or samples become latents; plans are laid out in latent cells either way."""


@dataclass(frozen=True, eq=False)
class Piece:
    """One tile along one axis.

    `cells`: the latent cells that it spans. `source`: the input elements that it reads. `length`: the elements of its
    result, of which the first `skip` are not used; the next ones lie at `target` in the output, and what is left after
    them is not used either. `weights`: float32, one per target element.
    """

    cells: Span
    source: Span
    length: int
    skip: int
    target: Span
    weights: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Line:
    """The tiles along one axis of `cells` latent cells, in rising order."""

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
        """Lay tiles that span `spans` of the axis's `cells`.

        With a leading first cell, a later tile's first cell is computed as if it began the array, which it does not:
        its element is skipped. (`delayed` skips the last element instead and so shifts later tiles by one element:
        diffusers' framewise decoding.) A span below the axis's minimum is widened to the left, and the result's
        excess skipped. A span of which nothing is left is dropped.

        Raises:
            InputError: the spans leave a gap, or too little of a tile for the next to start on.
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
        """Cells that are run for each cell that there is."""
        return sum(len(piece.cells) for piece in self.pieces) / self.cells

    def cropped(self, size: int) -> "Line":
        """The same tiles for the first `size` elements of the output; those beyond them are dropped."""
        pieces = []
        for piece in self.pieces:
            if piece.target.start < size:
                target = Span(piece.target.start, min(piece.target.stop, size))
                pieces.append(replace(piece, target=target, weights=piece.weights[: len(target)]))
        return replace(self, target_size=size, pieces=tuple(pieces))


@dataclass(frozen=True, eq=False)
class Tile:
    """One tile: its place among the pieces of each axis, and those pieces."""

    index: tuple[int, ...]
    pieces: tuple[Piece, ...]

    @cached_property
    def source(self) -> tuple[slice, ...]:
        """What it reads, of the input's trailing axes."""
        return tuple(piece.source.as_slice() for piece in self.pieces)

    @cached_property
    def source_shape(self) -> tuple[int, ...]:
        return tuple(len(piece.source) for piece in self.pieces)

    @cached_property
    def result_shape(self) -> tuple[int, ...]:
        return tuple(piece.length for piece in self.pieces)


@dataclass(frozen=True, eq=False)
class Plan:
    """A grid of tiles over the trailing axes of an array, one line per axis.

    With `feed_forward` each tile is blended in place with the already blended one above, then with the one on the
    left, as diffusers does; otherwise the output is the weighted sum of all tiles.
    """

    lines: tuple[Line, ...]
    feed_forward: bool = False

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Tiles along each axis."""
        return tuple(len(line.pieces) for line in self.lines)

    @cached_property
    def count(self) -> int:
        return math.prod(self.shape)

    @cached_property
    def largest(self) -> tuple[int, ...]:
        """The largest tile's latent cells along each axis."""
        return tuple(max(len(piece.cells) for piece in line.pieces) for line in self.lines)

    @property
    def source_size(self) -> tuple[int, ...]:
        return tuple(line.source_size for line in self.lines)

    @property
    def target_size(self) -> tuple[int, ...]:
        return tuple(line.target_size for line in self.lines)

    @property
    def work(self) -> float:
        """Latent cells that are run for each latent cell that there is: 1 is no overlap."""
        return math.prod(line.work for line in self.lines)

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """All tiles, the last axis fastest."""
        indices = product(*(range(length) for length in self.shape))
        return tuple(
            Tile(index, tuple(line.pieces[place] for line, place in zip(self.lines, index, strict=True)))
            for index in indices
        )

    @cached_property
    def groups(self) -> tuple[Span, ...]:
        """The output along the first axis, cut where tiles begin: group i is final once all tiles with first index up
        to i are done."""
        line = self.lines[0]
        starts = [piece.target.start for piece in line.pieces]
        return tuple(Span(*ends) for ends in zip(starts, [*starts[1:], line.target_size], strict=True))

    def cropped(self, size: Sequence[int]) -> "Plan":
        """The same tiles for the first elements of each output axis; `size` as `target_size`."""
        lines = tuple(line.cropped(length) for line, length in zip(self.lines, size, strict=True))
        return replace(self, lines=lines)

    def to_json(self) -> dict[str, Any]:
        """The plan for programs; spans are [start, stop]."""
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

    def table(self) -> str:
        """The plan for people: one row per tile and axis."""
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
        shape = " x ".join(map(str, self.shape))
        return "\n".join([*text, f"{self.count} tiles ({shape}), {self.work:.2f} times the cells of a single pass"])
