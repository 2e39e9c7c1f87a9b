"""Three ways to cut an axis of latent cells into overlapping tiles. Each returns a list of spans."""

from .axis import Span

__all__ = ["evened_size", "last_short", "last_slid_back", "with_stubs"]


def last_slid_back(cells: int, size: int, stride: int) -> list[Span]:
    """Tiles of exactly `size` cells, `stride` cells apart. The last tile moves back so that it ends with the axis.

    An axis of at most `size` cells is one tile.
    """
    if cells <= size:
        return [Span(0, cells)]
    starts = [*range(0, cells - size, stride), cells - size]
    return [Span(start, start + size) for start in starts]


def evened_size(cells: int, size: int, overlap: int) -> int:
    """The smallest tile size that needs no more tiles than `size` does, with at least `overlap` cells in common."""
    if cells <= size:
        return cells
    count = -(-(cells - overlap) // (size - overlap))
    return -(-(cells + (count - 1) * overlap) // count)


def with_stubs(cells: int, size: int, stride: int) -> list[Span]:
    """A tile at every multiple of `stride`, cut off at the end of the axis, as in diffusers' loops.

    The last tile may be a stub that lies within the tile before it.
    """
    return [Span(start, min(start + size, cells)) for start in range(0, cells, stride)]


def last_short(cells: int, size: int, overlap: int, *, causal: bool = False) -> list[Span]:
    """Tiles of `size` cells with `overlap` cells in common; the last tile is shorter.

    These are LTX-2's splits (`split_by_size`, and with `causal` `split_temporal_causal`). With `causal`, each tile
    except the first starts one cell earlier, because the result of its first cell cannot be used.
    """
    if cells <= size:
        return [Span(0, cells)]
    stride = size - overlap
    starts = range(0, cells - overlap, stride)
    spans = [Span(start - (causal and start > 0), min(start + size, cells)) for start in starts]
    # With a stride of one cell, the second tile starts with the first tile and contains it.
    return spans[1:] if spans[1].start == 0 else spans
