"""Putting tiles together: a weighted sum, and diffusers' in-place feed-forward."""

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
_KEPT_LAYOUTS = 16  # plans are often used again
_BLOCK_VALUES = 1 << 18  # 1 MiB: within the second-level cache of anything this runs on


class Blend(Protocol):
    """Takes the tiles' results in the plan's order. `result` (B, C, ...) is the tile's own and is overwritten."""

    def put(self, tile: Tile, result: Array) -> None: ...


def blend_of(plan: Plan, canvas: Canvas) -> Blend:
    """The blend that a plan asks for."""
    return FeedForward(plan, canvas) if plan.feed_forward else WeightedSum(plan, canvas)


@dataclass(frozen=True, eq=False)
class _Segment:
    """A run of a piece within one group of the canvas. `weights`: None where they are all one. `touched`: how many of
    its first elements earlier pieces have written to."""

    local: slice
    target: Span
    weights: Array | None
    touched: int


class WeightedSum:
    """The sum of tiles times their weights, in float32.

    The output is never cleared: what a tile is the first to reach is assigned. A tile is worked through in blocks of
    whole planes that stay in the cache, where they are weighted and joined with what lies below them.
    """

    def __init__(self, plan: Plan, canvas: Canvas) -> None:
        self._canvas = canvas
        self._segments = _layout(plan, canvas.groups)

    def put(self, tile: Tile, result: Array) -> None:
        rows = (pieces[place] for pieces, place in zip(self._segments, tile.index, strict=True))
        for segments in product(*rows):
            block = result[trailing(segment.local for segment in segments)]
            below = self._canvas.at([segment.target for segment in segments])
            weights = [
                _along(segment.weights, axis - len(segments))
                for axis, segment in enumerate(segments)
                if segment.weights is not None
            ]
            known = segments[-1].touched
            if any(segment.touched for segment in segments[:-1]) or known == len(segments[-1].target):
                known = block.shape[-1]
            for part, target, own in _in_cache(block, below, weights):
                for factors in own:
                    part *= factors
                if known == part.shape[-1]:
                    target += part
                    continue
                if known:  # narrow columns are slow to work on: they are fetched, and then whole rows stored
                    part[..., :known] += target[..., :known]
                target[...] = part


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
        head = _cut(block, side, slice(0, length))
        head *= _along(tile.pieces[axis].weights[:length], side)
        head += strip

    def _keep_strip(self, tile: Tile, axis: int, block: Array) -> None:
        """Keep this tile's share of what it and the next one along the axis have in common."""
        following = self._next(tile, axis)
        if following is None:
            return
        common = Span(following.target.start, min(tile.pieces[axis].target.stop, following.target.stop))
        if len(common) > 0:
            index = tuple(place + (other == axis) for other, place in enumerate(tile.index))
            side = axis - len(tile.pieces)
            weights = np.float32(1) - _along(following.weights[: len(common)], side)
            self._strips[axis, index] = _cut(block, side, common.as_slice(tile.pieces[axis].target.start)) * weights

    def _kept(self, tile: Tile, axis: int) -> Span:
        """What the tile's own blended result fills: up to where the next tile begins."""
        target, following = tile.pieces[axis].target, self._next(tile, axis)
        return target if following is None else Span(target.start, following.target.start)

    def _next(self, tile: Tile, axis: int) -> Piece | None:
        pieces, place = self._plan.lines[axis].pieces, tile.index[axis] + 1
        return pieces[place] if place < len(pieces) else None


@lru_cache(_KEPT_LAYOUTS)
def _layout(plan: Plan, groups: tuple[Span, ...]) -> list[list[list[_Segment]]]:
    """The segments of each axis."""
    last = len(plan.lines) - 1
    return [_segments(line, groups if axis == 0 else None, axis == last) for axis, line in enumerate(plan.lines)]


def _segments(line: Line, groups: Sequence[Span] | None, is_last: bool) -> list[list[_Segment]]:
    """Each piece's segments: cut at the `groups` of the canvas along the first axis, and between whole rows also where
    the weights begin and end to be one and where earlier pieces end."""
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
            row.append(_Segment(local, span, None if (weights == 1).all() else weights, touched))
        found.append(row)
        reached = max(reached, stop)
    return found


def _cut_at(groups: Sequence[Span], span: Span) -> list[Span]:
    """A run along the first axis, cut at the borders of the groups."""
    parts = (Span(max(group.start, span.start), min(group.stop, span.stop)) for group in groups)
    return [part for part in parts if part.start < part.stop]


def _in_cache(block: Array, target: Array, weights: Sequence[Array]) -> Iterator[tuple[Array, Array, Sequence[Array]]]:
    """Block, target and the weights that lie along their last axes, cut into planes, or runs of them, of at most
    `_BLOCK_VALUES` where a plane is no larger."""
    if block.size <= _BLOCK_VALUES or block.ndim <= 2:
        yield block, target, weights
        return
    step = max(1, _BLOCK_VALUES // max(1, block[0].size))
    along = block.ndim  # weights with as many axes lie along the first one of the block
    for start in range(0, block.shape[0], step):
        part = slice(start, start + step)
        own = [each[part] if each.ndim == along and each.shape[0] > 1 else each for each in weights]
        if step == 1:
            yield from _in_cache(block[start], target[start], [each[0] if each.ndim == along else each for each in own])
        else:
            yield block[part], target[part], own


def _along(weights: Array, side: int) -> Array:
    """The weights shaped to lie along an axis counted from the end (-1 is the last)."""
    return weights.reshape(-1, *(1,) * (-side - 1))


def _cut(block: Array, side: int, part: slice) -> Array:
    """A part along an axis counted from the end, as a view."""
    view: Array = block[trailing([part, *[slice(None)] * (-side - 1)])]
    return view
