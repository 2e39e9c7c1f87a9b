"""How an autoencoder tiles, as a value that makes plans."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from ...tiling import Line, Plan, Span, evened_size, last_short, last_slid_back, with_stubs
from ...tiling.plan import Direction
from ..arrays.grid import Grid

__all__ = ["AxisTiles", "TilingSettings", "stream_tiles", "tiles_of"]

_KEPT_PLANS = 16  # calls often have the size of an earlier one, and a plan is a value


@dataclass(frozen=True)
class AxisTiles:
    """Tiles along one axis.

    Attributes:
        size: the length of a tile in latent cells.
        stride: the distance between the starts of two tiles in latent cells.
        even: the size is a default, so the plan may make tiles smaller to cover the axis evenly.
    """

    size: int
    stride: int
    even: bool = False


@dataclass(frozen=True)
class TilingSettings:
    """How an autoencoder tiles.

    Attributes:
        blend: "linear" (the weights of all tiles add up to one, and all tiles have one shape), "diffusers" (its tiles
            and its blending) or "ltx2" (those of the LTX-2 repository).
        tiles: the tiles along each axis: height and width, for video models time first.
        framewise: with "diffusers": tile along time too.
        compat_shift: with "diffusers": repeat its decode of tiles in time, which is one frame late.
        tiles_per_call: the most tiles in one engine call.
    """

    blend: str
    tiles: tuple[AxisTiles, ...]
    framewise: bool = True
    compat_shift: bool = False
    tiles_per_call: int = 1

    def plan(self, grid: Grid, direction: Direction, cells: Sequence[int], *, gated: bool = True) -> Plan:
        """The plan for latents of `cells`. If they fit into one tile, it has one tile.

        `gated=False` plans as diffusers' `tiled_decode` and `tiled_encode` do. They loop over height and width even if
        one tile holds everything.
        """
        feed_forward = self.blend == "diffusers"
        lines = tuple(
            Line.of(
                axis,
                length,
                spans,
                direction=direction,
                feed_forward=feed_forward,
                delayed=self.compat_shift and direction == "decode",
            )
            for axis, length, spans in zip(
                grid.axes_for(direction), cells, self._spans(cells, gated, grid.video), strict=True
            )
        )
        return Plan(lines, feed_forward)

    def _spans(self, cells: Sequence[int], gated: bool, video: bool) -> list[list[Span]]:
        if self.blend == "linear":
            return [_linear_spans(length, tiles) for length, tiles in zip(cells, self.tiles, strict=True)]
        if self.blend == "ltx2":
            spans = [last_short(n, tiles.size, tiles.size - tiles.stride) for n, tiles in _space(cells, self.tiles)]
            # The first tile has one cell less than the later tiles, whose first cell gives no frames.
            size, stride = self.tiles[0].size - 1, self.tiles[0].stride
            return [last_short(cells[0], size, size - stride, causal=True), *spans]
        in_space = any(length > tiles.size for length, tiles in _space(cells, self.tiles))
        if in_space or not (gated or (video and self.framewise)):
            spans = [with_stubs(length, tiles.size, tiles.stride) for length, tiles in _space(cells, self.tiles)]
        else:
            spans = [[Span(0, length)] for length in cells[-2:]]
        if not video:
            return spans
        # diffusers compares the latent frames with those of a tile, without the frame that it adds to each tile.
        frames = self.tiles[0]
        in_time = self.framewise and cells[0] > frames.size - 1
        return [with_stubs(cells[0], frames.size, frames.stride) if in_time else [Span(0, cells[0])], *spans]


@lru_cache(_KEPT_PLANS)
def tiles_of(
    tiling: TilingSettings,
    grid: Grid,
    direction: Direction,
    cells: tuple[int, ...],
    size: tuple[int, ...],
    *,
    gated: bool = True,
) -> Plan | None:
    """The tiles for the first `size` elements of a result, or None if one tile holds everything.

    Raises:
        InputError: the tiles leave a gap.
    """
    plan = tiling.plan(grid, direction, cells, gated=gated)
    return plan.cropped(size) if plan.count > 1 else None


@lru_cache(_KEPT_PLANS)
def stream_tiles(tiling: TilingSettings | None, grid: Grid, direction: Direction, size: tuple[int, ...]) -> Plan:
    """The tiles of a stream, in height and width only, for latents of `size` (h, w). Without `tiling` there is one."""
    if tiling is not None:
        plan = tiling.plan(grid, direction, (1, *size))
        return replace(plan, lines=plan.lines[1:])
    axes = grid.axes_for(direction)[1:]
    spans = [[Span(0, length)] for length in size]
    return Plan(tuple(Line.of(*of, direction=direction) for of in zip(axes, size, spans, strict=True)))


def _linear_spans(cells: int, tiles: AxisTiles) -> list[Span]:
    if not tiles.even:
        return last_slid_back(cells, tiles.size, tiles.stride)
    overlap = tiles.size - tiles.stride
    size = evened_size(cells, tiles.size, overlap)
    return last_slid_back(cells, size, max(size - overlap, 1))


def _space(cells: Sequence[int], tiles: Sequence[AxisTiles]) -> list[tuple[int, AxisTiles]]:
    return list(zip(cells[-2:], tiles[-2:], strict=True))
