"""Cutting an axis of latent cells into overlapping tiles: three ways, one list of spans each."""

from .axis import Span

__all__ = ["evened_size", "last_short", "last_slid_back", "with_stubs"]


def last_slid_back(cells: int, size: int, stride: int) -> list[Span]:
    """Tiles of exactly `size` (or one of all cells, where there are no more), `stride` apart; the last one slides
    back so that it ends where the cells end."""
    if cells <= size:
        return [Span(0, cells)]
    starts = [*range(0, cells - size, stride), cells - size]
    return [Span(start, start + size) for start in starts]


def evened_size(cells: int, size: int, overlap: int) -> int:
    """The smallest tile that covers the cells in as few tiles as `size` does, with at least `overlap` between two."""
    if cells <= size:
        return cells
    count = -(-(cells - overlap) // (size - overlap))
    return -(-(cells + (count - 1) * overlap) // count)


def with_stubs(cells: int, size: int, stride: int) -> list[Span]:
    """A tile at every multiple of `stride`, cut off at the end of the cells: diffusers' loops, whose last tile may be
    a stub that lies within the one before it."""
    return [Span(start, min(start + size, cells)) for start in range(0, cells, stride)]


def last_short(cells: int, size: int, overlap: int, *, causal: bool = False) -> list[Span]:
    """Tiles of `size` with `overlap` between two, the last one shorter; with `causal` each later tile starts one cell
    earlier, for its first cell is of no use. LTX-2's own splits (`split_by_size`, `split_temporal_causal`)."""
    if cells <= size:
        return [Span(0, cells)]
    stride = size - overlap
    starts = range(0, cells - overlap, stride)
    spans = [Span(start - (causal and start > 0), min(start + size, cells)) for start in starts]
    # With a stride of one cell the second tile starts where the first does, and holds all of it.
    return spans[1:] if spans[1].start == 0 else spans
