"""Weights of tiles along one axis."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .axis import Span

__all__ = ["feed_forward_weights", "partition_of_unity"]

Weights = NDArray[np.float32]


def partition_of_unity(targets: Sequence[Span]) -> list[Weights]:
    """Float32 weights of each tile over the elements that it reaches; over all tiles they sum to one everywhere.

    Where two neighbours overlap in m elements, one's weight falls by 1 / (m + 1) an element and the other's rises, as
    in LTX-2's masks. Each tile's weights are its rise times its fall, divided by the sum over all tiles, which differs
    from one only where three or more overlap. They are exactly one where no other tile reaches.

    The targets start and end in rising order and leave no gap.
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
    """Float32 weights of each tile against the one before it: k / e at element k of their e common ones, then one.

    diffusers' `blend_v` and `blend_h`: the first element of a tile is wholly its predecessor's.
    """
    weights = [np.ones(len(target), np.float32) for target in targets]
    for index in range(1, len(targets)):
        overlap = min(targets[index - 1].stop, targets[index].stop) - targets[index].start
        weights[index][:overlap] = np.arange(overlap) / max(overlap, 1)
    return weights
