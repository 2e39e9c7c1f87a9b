"""The edges of what a tensor depends on: for each position the first and the last position of each source.

An array of edges is int32 (2, sources, *axes). Entry 0 holds the first position, and entry 1 the negative of the last
position, so that the union of two ranges is the minimum of both. An axis along which the edges are equal has length 1.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "NOTHING",
    "Edges",
    "compressed",
    "joined",
    "merged",
    "padded",
    "positions",
    "reshaped",
    "slid",
    "taken",
    "union",
]

Edges = NDArray[np.int32]
NOTHING = 1 << 30
"""The edge of a position that depends on no position of a source."""
_LEAD = 2  # axes before those of the tensor
_MOST_EDGES = 1 << 20  # of one array: larger arrays are made smaller, which only makes ranges wider


def positions(rank: int, axis: int, length: int, source: int, sources: int, start: int = 0) -> Edges:
    """The edges of an input: each position along `axis` depends on itself."""
    edges = np.full((2, sources, length), NOTHING, np.int32)
    edges[0, source] = np.arange(start, start + length)
    edges[1, source] = -edges[0, source]
    return edges.reshape(2, sources, *(length if one == axis else 1 for one in range(rank)))


def union(every: Sequence[Edges]) -> Edges:
    """The edges of an operation whose inputs are broadcast to each other."""
    rank = max(edges.ndim for edges in every)
    result = _of_rank(every[0], rank)
    for edges in every[1:]:
        result = np.minimum(result, _of_rank(edges, rank))
    return result


def merged(edges: Edges, axes: Sequence[int]) -> Edges:
    """Each position along `axes` depends on everything along them; the axes stay, with length 1."""
    return np.asarray(edges.min(axis=tuple(_LEAD + axis for axis in axes), keepdims=True))


def compressed(edges: Edges) -> Edges:
    """The edges with length 1 along each axis where they are equal."""
    for axis in range(_LEAD, edges.ndim):
        if edges.shape[axis] > 1 and (edges == edges.take([0], axis)).all():
            edges = edges.take([0], axis)
    return edges


def reshaped(edges: Edges, old: Sequence[int], new: Sequence[int]) -> Edges:
    """The edges of a tensor whose shape changes from `old` to `new`.

    Axes that are joined with channels would multiply the edges by the number of channels. If that makes too many, each
    joined position depends on what any of them depends on.
    """
    for here, there in _blocks(old, new):
        own = [edges.shape[_LEAD + axis] for axis in here]
        made = edges.size // prod(own) * prod(old[axis] for axis in here)
        if len(here) > 1 and len(there) == 1 and 1 < prod(own) < made and made > _MOST_EDGES:
            edges = merged(edges, here)
    full, target = list(edges.shape[:_LEAD]), list(edges.shape[:_LEAD])
    for here, there in _blocks(old, new):
        own = [edges.shape[_LEAD + axis] for axis in here]
        if all(length == 1 for length in own):
            full += own
            target += [1] * len(there)
        else:
            full += [old[axis] for axis in here]
            target += [new[axis] for axis in there]
    return compressed(np.broadcast_to(edges, full).reshape(target))


def joined(parts: Sequence[tuple[Edges, int]], axis: int, *, each: bool) -> Edges:
    """The edges of tensors that are joined along an axis, each with its length there.

    Without `each`, tensors whose edges are equal along the axis count as one, which only makes ranges wider.
    """
    at = _LEAD + axis
    if not each and all(edges.shape[at] == 1 for edges, _ in parts):
        return union([edges for edges, _ in parts])
    shape = np.broadcast_shapes(*((*edges.shape[:at], 1, *edges.shape[at + 1 :]) for edges, _ in parts))
    wide = [np.broadcast_to(edges, (*shape[:at], length, *shape[at + 1 :])) for edges, length in parts]
    return compressed(np.concatenate(wide, axis=at))


def taken(edges: Edges, axis: int, indices: NDArray[Any]) -> Edges:
    """The edges of the positions `indices` along an axis; its place is taken by the axes of `indices`."""
    at = _LEAD + axis
    if edges.shape[at] == 1:
        return edges.reshape(*edges.shape[:at], *[1] * indices.ndim, *edges.shape[at + 1 :])
    return compressed(np.take(edges, indices, axis=at))


def padded(edges: Edges, amounts: Sequence[tuple[int, int]], *, reflect: bool) -> Edges:
    """The edges with positions before and behind along each axis: constants, or mirrored positions."""
    own = [
        (0, 0) if edges.shape[_LEAD + axis] == 1 else (max(before, 0), max(behind, 0))
        for axis, (before, behind) in enumerate(amounts)
    ]
    wide = [(0, 0)] * _LEAD + own
    if not any(map(any, own)):
        return edges
    return np.pad(edges, wide, mode="reflect") if reflect else np.pad(edges, wide, constant_values=NOTHING)


def slid(edges: Edges, axis: int, kernel: int, stride: int, dilation: int = 1) -> Edges:
    """The edges after a window of `kernel` taps runs along an axis."""
    at = _LEAD + axis
    if edges.shape[at] == 1:
        return edges
    count = (edges.shape[at] - dilation * (kernel - 1) - 1) // stride + 1
    taps = [np.arange(count) * stride + tap * dilation for tap in range(kernel)]
    return np.asarray(np.minimum.reduce([np.take(edges, tap, axis=at) for tap in taps]))


def _of_rank(edges: Edges, rank: int) -> Edges:
    missing = rank - edges.ndim
    return edges.reshape(*edges.shape[:_LEAD], *[1] * missing, *edges.shape[_LEAD:]) if missing else edges


def _blocks(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest runs of axes of both shapes that hold the same number of elements."""
    blocks: list[tuple[list[int], list[int]]] = []
    left, right = 0, 0
    while left < len(old) or right < len(new):
        here: list[int] = []
        there: list[int] = []
        size, wanted = 1, 1
        while not (here or there) or size != wanted:
            if left < len(old) and (size <= wanted or right == len(new)):
                here.append(left)
                size *= old[left]
                left += 1
            else:
                there.append(right)
                wanted *= new[right]
                right += 1
        blocks.append((here, there))
    return blocks
