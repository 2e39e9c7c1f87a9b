"""The weights of tiles along one axis."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .axis import Span

__all__ = ["feed_forward_weights", "partition_of_unity"]

Weights = NDArray[np.float32]


def partition_of_unity(targets: Sequence[Span]) -> list[Weights]:
    """Weights that sum to one at every element, over all tiles.

    Where two neighbours overlap in m elements, the weight of one falls by 1 / (m + 1) per element and the weight of
    the other rises, as in LTX-2's masks. A tile's weights are its rise times its fall, divided by the sum over all
    tiles. That sum differs from one only where three or more tiles overlap. Where a single tile reaches, its weight
    is exactly one.

    Args:
        targets: the output elements of each tile. They start and end in rising order and leave no gap.

    Returns:
        For each tile, float32 weights, one per target element.
    """
    raw = [np.ones(len(target)) for target in targets]
    for index in range(1, len(targets)):
        overlap = targets[index - 1].stop - targets[index].start
        rise = np.arange(1, overlap + 1) / (overlap + 1)
        raw[index][:overlap] *= rise
        raw[index - 1][len(targets[index - 1]) - overlap :] *= rise[::-1]
    total = np.zeros(targets[-1].stop)
    for target, weights in zip(targets, raw, strict=True):
        total[target.as_slice()] += weights
    return [
        (weights / total[target.as_slice()]).astype(np.float32) for target, weights in zip(targets, raw, strict=True)
    ]


def feed_forward_weights(targets: Sequence[Span]) -> list[Weights]:
    """The weights of diffusers' `blend_v` and `blend_h`: each tile against the tile before it.

    Over the e elements that two tiles have in common, the later tile has the weight k / e at element k; after them it
    has one. So the first common element is taken from the earlier tile alone.

    Args:
        targets: the output elements of each tile, in rising order.

    Returns:
        For each tile, float32 weights, one per target element.
    """
    weights = [np.ones(len(target), np.float32) for target in targets]
    for index in range(1, len(targets)):
        overlap = min(targets[index - 1].stop, targets[index].stop) - targets[index].start
        weights[index][:overlap] = np.arange(overlap) / max(overlap, 1)
    return weights
