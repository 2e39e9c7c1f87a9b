"""Putting tiles together: a weighted sum, and diffusers' in-place feed-forward."""

from dataclasses import dataclass
from itertools import pairwise, product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .axis import Span, trailing
from .canvas import Canvas
from .plan import Line, Plan, Tile

__all__ = ["Blend", "FeedForward", "WeightedSum", "blend_of"]

Array = NDArray[np.float32]


class Blend(Protocol):
    """Takes the tiles' results in the plan's order. `result` (B, C, ...) is the tile's own and is overwritten."""

    def put(self, tile: Tile, result: Array) -> None: ...


def blend_of(plan: Plan, canvas: Canvas) -> Blend:
    """The blend that a plan asks for."""
    return FeedForward(plan, canvas) if plan.feed_forward else WeightedSum(plan, canvas)


@dataclass(frozen=True, eq=False)
class _Segment:
    """A run of a piece in which its weights are either all one (None) or not, and which earlier pieces have either
    all written to or not."""

    local: slice
    target: Span
    weights: Array | None
    touched: bool


class WeightedSum:
    """The sum of tiles times their weights, in float32.

    The output is never cleared: where a tile is the first to write it assigns, and where it is alone it copies.
    """

    def __init__(self, plan: Plan, canvas: Canvas) -> None:
        self._canvas = canvas
        self._segments = [_segments(line, canvas if axis == 0 else None) for axis, line in enumerate(plan.lines)]

    def put(self, tile: Tile, result: Array) -> None:
        rows = (pieces[place] for pieces, place in zip(self._segments, tile.index, strict=True))
        for segments in product(*rows):
            block = result[trailing(segment.local for segment in segments)]
            target = self._canvas.at([segment.target for segment in segments])
            for axis, segment in enumerate(segments):
                if segment.weights is not None:
                    block *= _along(segment.weights, axis - len(segments))
            if any(segment.touched for segment in segments):
                target += block
            else:
                target[...] = block


class FeedForward:
    """diffusers' blending: along the last two axes each tile is blended with the already blended tiles above and on
    the left, and then cut down to its stride; along axes before them (time) the same is done with what is left.

    The strips that the next tiles need are kept aside, so a tile's result is written once and never read again.
    """

    def __init__(self, plan: Plan, canvas: Canvas) -> None:
        self._plan, self._canvas = plan, canvas
        self._strips: dict[tuple[int, tuple[int, ...]], Array] = {}

    def put(self, tile: Tile, result: Array) -> None:
        rank = len(tile.pieces)
        own = [slice(piece.skip, piece.skip + len(piece.target)) for piece in tile.pieces]
        block = result[trailing(own)]
        inner = range(max(0, rank - 2), rank)
        for axes in (inner, *([axis] for axis in reversed(range(inner.start)))):
            for axis in axes:
                self._blend(tile, axis, block)
            for axis in axes:
                self._keep_strip(tile, axis, block)
            for axis in axes:
                block = _cut(block, axis - rank, slice(0, len(self._kept(tile, axis))))
        self._canvas.at([self._kept(tile, axis) for axis in range(rank)])[...] = block

    def _blend(self, tile: Tile, axis: int, block: Array) -> None:
        strip = self._strips.pop((axis, tile.index), None)
        if strip is None:
            return
        side = axis - len(tile.pieces)
        length = strip.shape[side]
        weights = _along(tile.pieces[axis].weights[:length], side)
        head = _cut(block, side, slice(0, length))
        head *= weights
        strip *= np.float32(1) - weights
        head += strip

    def _keep_strip(self, tile: Tile, axis: int, block: Array) -> None:
        """Copy what the next tile along the axis will be blended with."""
        following = self._next(tile, axis)
        if following is None:
            return
        origin = tile.pieces[axis].target.start
        stop = min(tile.pieces[axis].target.stop, following.stop)
        if stop > following.start:
            index = tuple(place + (other == axis) for other, place in enumerate(tile.index))
            part = slice(following.start - origin, stop - origin)
            self._strips[axis, index] = _cut(block, axis - len(tile.pieces), part).copy()

    def _kept(self, tile: Tile, axis: int) -> Span:
        """What the tile's own blended result fills: up to where the next tile begins."""
        target, following = tile.pieces[axis].target, self._next(tile, axis)
        return target if following is None else Span(target.start, following.start)

    def _next(self, tile: Tile, axis: int) -> Span | None:
        pieces, place = self._plan.lines[axis].pieces, tile.index[axis] + 1
        return pieces[place].target if place < len(pieces) else None


def _segments(line: Line, canvas: Canvas | None) -> list[list[_Segment]]:
    found, reached = [], 0
    for piece in line.pieces:
        start, stop = piece.target.start, piece.target.stop
        plain = np.flatnonzero(piece.weights == 1)
        cuts = {start, stop, min(max(reached, start), stop)}
        if len(plain):
            cuts |= {start + int(plain[0]), start + int(plain[-1]) + 1}
        borders = sorted(cuts)
        spans = [Span(*pair) for pair in pairwise(borders)]
        if canvas is not None:
            spans = [part for span in spans for part in canvas.split(span)]
        row = []
        for span in spans:
            weights = piece.weights[span.as_slice(start)]
            alone = bool((weights == 1).all())
            local = slice(piece.skip + span.start - start, piece.skip + span.stop - start)
            row.append(_Segment(local, span, None if alone else weights, span.start < reached))
        found.append(row)
        reached = max(reached, stop)
    return found


def _along(weights: Array, side: int) -> Array:
    """The weights shaped to lie along an axis counted from the end (-1 is the last)."""
    return weights.reshape(-1, *(1,) * (-side - 1))


def _cut(block: Array, side: int, part: slice) -> Array:
    """A part along an axis counted from the end, as a view."""
    view: Array = block[trailing([part, *[slice(None)] * (-side - 1)])]
    return view
