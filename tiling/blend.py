"""Blending tiles into the output: a weighted sum, or diffusers' feed-forward in place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .axis import Span, trailing
from .canvas import Canvas
from .plan import Line, Piece, Plan, Tile

__all__ = ["Blend", "FeedForward", "WeightedSum", "blend_of"]

Array = NDArray[np.float32]
_KEPT_LAYOUTS = 16  # the layouts of the last plans, since calls often use the plan of an earlier call
_BLOCK_VALUES = 1 << 18  # float32 values that are blended at a time: 1 MiB, which fits the second-level cache


class Blend(Protocol):
    """Takes the results of the tiles, in the plan's order."""

    def put(self, tile: Tile, result: Array) -> None:
        """Blend the result of `tile`, float32 (B, C, ...), into the output. `result` is overwritten."""


def blend_of(plan: Plan, canvas: Canvas) -> Blend:
    """The blend for a plan: `FeedForward` if the plan says so, else `WeightedSum`."""
    return FeedForward(plan, canvas) if plan.feed_forward else WeightedSum(plan, canvas)


@dataclass(frozen=True, eq=False)
class _PiecePart:
    """A part of a piece that lies within one group of the canvas.

    Attributes:
        local: where the part lies in the tile's result.
        target: where it lies in the output.
        weights: one per element. None if all are one.
        touched: how many of its first elements earlier pieces have written to.
    """

    local: slice
    target: Span
    weights: Array | None
    touched: int


class WeightedSum:
    """The sum of the tiles times their weights, in float32.

    The output is never cleared: the first tile that reaches an element assigns it, and later tiles add to it. A tile
    is processed in blocks of whole planes. Each block stays in the processor's cache while it is weighted and added.
    """

    def __init__(self, plan: Plan, canvas: Canvas) -> None:
        self._canvas = canvas
        self._parts = _layout(plan, canvas.groups)

    def put(self, tile: Tile, result: Array) -> None:
        rows = (pieces[place] for pieces, place in zip(self._parts, tile.index, strict=True))
        for parts in product(*rows):
            block = result[trailing(part.local for part in parts)]
            below = self._canvas.at([part.target for part in parts])
            weights = [
                _along(part.weights, axis - len(parts)) for axis, part in enumerate(parts) if part.weights is not None
            ]
            touched = parts[-1].touched
            if any(part.touched for part in parts[:-1]) or touched == len(parts[-1].target):
                touched = block.shape[-1]
            for values, target, own_weights in _in_cache(block, below, weights):
                for factors in own_weights:
                    values *= factors
                if touched == values.shape[-1]:
                    target += values
                    continue
                if touched:  # narrow columns are slow to write: fetch them, then store whole rows
                    values[..., :touched] += target[..., :touched]
                target[...] = values


class FeedForward:
    """diffusers' blending.

    Along the last two axes, each tile is blended with the blended tiles above it and on its left, and then cut to its
    stride. Then the same is done along the axes before them (time). The overlaps that the next tiles need are copied,
    so a result is written to the output once and never read again.
    """

    def __init__(self, plan: Plan, canvas: Canvas) -> None:
        self._plan, self._canvas = plan, canvas
        self._overlaps: dict[tuple[int, tuple[int, ...]], Array] = {}

    def put(self, tile: Tile, result: Array) -> None:
        rank = len(tile.pieces)
        own = [slice(piece.skip, piece.skip + len(piece.target)) for piece in tile.pieces]
        block = result[trailing(own)]
        inner = range(max(0, rank - 2), rank)
        for axes in (inner, *([axis] for axis in reversed(range(inner.start)))):
            for axis in axes:
                self._blend(tile, axis, block)
            for axis in axes:
                self._keep_overlap(tile, axis, block)
            for axis in axes:
                block = _cut(block, axis - rank, slice(0, len(self._kept(tile, axis))))
        self._canvas.at([self._kept(tile, axis) for axis in range(rank)])[...] = block

    def _blend(self, tile: Tile, axis: int, block: Array) -> None:
        overlap = self._overlaps.pop((axis, tile.index), None)
        if overlap is None:
            return
        side = axis - len(tile.pieces)
        length = overlap.shape[side]
        head = _cut(block, side, slice(0, length))
        head *= _along(tile.pieces[axis].weights[:length], side)
        head += overlap

    def _keep_overlap(self, tile: Tile, axis: int, block: Array) -> None:
        """Keep this tile's weighted values in its overlap with the next tile along the axis."""
        following = self._next(tile, axis)
        if following is None:
            return
        common = Span(following.target.start, min(tile.pieces[axis].target.stop, following.target.stop))
        if len(common) > 0:
            index = tuple(place + (other == axis) for other, place in enumerate(tile.index))
            side = axis - len(tile.pieces)
            weights = np.float32(1) - _along(following.weights[: len(common)], side)
            self._overlaps[axis, index] = _cut(block, side, common.as_slice(tile.pieces[axis].target.start)) * weights

    def _kept(self, tile: Tile, axis: int) -> Span:
        """The output elements that this tile writes along the axis: up to the start of the next tile."""
        target, following = tile.pieces[axis].target, self._next(tile, axis)
        return target if following is None else Span(target.start, following.target.start)

    def _next(self, tile: Tile, axis: int) -> Piece | None:
        pieces, place = self._plan.lines[axis].pieces, tile.index[axis] + 1
        return pieces[place] if place < len(pieces) else None


@lru_cache(_KEPT_LAYOUTS)
def _layout(plan: Plan, groups: tuple[Span, ...]) -> list[list[list[_PiecePart]]]:
    """The parts of the pieces of each axis."""
    last = len(plan.lines) - 1
    return [_piece_parts(line, groups if axis == 0 else None, axis == last) for axis, line in enumerate(plan.lines)]


def _piece_parts(line: Line, groups: Sequence[Span] | None, is_last: bool) -> list[list[_PiecePart]]:
    """Cut each piece of a line into parts.

    Along the first axis, pieces are cut at the `groups` of the canvas. Along every axis except the last (unless it is
    the only axis), they are also cut where earlier pieces end and where the run of weights of one begins and ends.
    """
    found, reached = [], 0
    for piece in line.pieces:
        start, stop = piece.target.start, piece.target.stop
        cuts = {start, stop}
        if groups is not None or not is_last:
            plain = np.flatnonzero(piece.weights == 1)
            ends = (start + int(plain[0]), start + int(plain[-1]) + 1) if len(plain) else ()
            cuts |= {min(max(reached, start), stop), *ends}
        spans = [Span(*pair) for pair in pairwise(sorted(cuts))]
        if groups is not None:
            spans = [part for span in spans for part in _cut_at(groups, span)]
        row = []
        for span in spans:
            weights = piece.weights[span.as_slice(start)]
            local = slice(piece.skip + span.start - start, piece.skip + span.stop - start)
            touched = min(max(reached - span.start, 0), len(span))
            row.append(_PiecePart(local, span, None if (weights == 1).all() else weights, touched))
        found.append(row)
        reached = max(reached, stop)
    return found


def _cut_at(groups: Sequence[Span], span: Span) -> list[Span]:
    """A run along the first axis, cut at the borders of the groups."""
    parts = (Span(max(group.start, span.start), min(group.stop, span.stop)) for group in groups)
    return [part for part in parts if part.start < part.stop]


def _in_cache(block: Array, target: Array, weights: Sequence[Array]) -> Iterator[tuple[Array, Array, Sequence[Array]]]:
    """Cut a block, its target and its weights along the first axes into parts that fit the cache.

    A part has at most `_BLOCK_VALUES` values, unless a single plane is larger. The weights lie along the last axes.
    """
    if block.size <= _BLOCK_VALUES or block.ndim <= 2:
        yield block, target, weights
        return
    step = max(1, _BLOCK_VALUES // max(1, block[0].size))
    along = block.ndim  # weights with this many axes lie along the first axis of the block
    for start in range(0, block.shape[0], step):
        part = slice(start, start + step)
        own = [each[part] if each.ndim == along and each.shape[0] > 1 else each for each in weights]
        if step == 1:
            yield from _in_cache(block[start], target[start], [each[0] if each.ndim == along else each for each in own])
        else:
            yield block[part], target[part], own


def _along(weights: Array, side: int) -> Array:
    """The weights in a shape that broadcasts along one axis, counted from the end (-1 is the last)."""
    return weights.reshape(-1, *(1,) * (-side - 1))


def _cut(block: Array, side: int, part: slice) -> Array:
    """A view of a part along one axis, counted from the end (-1 is the last)."""
    view: Array = block[trailing([part, *[slice(None)] * (-side - 1)])]
    return view
