"""Filtering by three taps with fewer multiplications: Winograd's minimal filtering, from the products of Toom and Cook.
m results of a row of values cost m + 2 multiplications instead of 3 m, and some additions.

The results of a filter are coefficients of a product of polynomials. They follow from the product's values at m + 1
points and its leading coefficient (its value "at infinity"). See Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks", https://arxiv.org/abs/1509.09308.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["TAPS", "Filtering", "filtering"]

TAPS = 3
_POINTS = {2: (0.0, 1.0, -1.0), 4: (0.0, 0.625, -0.625, 1.5, -1.5)}
"""The points, by the number of results at once. The rounding errors over 512 channels are 1.3 times those of plain sums
for two results and 2.2 times for four. The usual points 0, 1, -1, 2, -2 for four results have 3.4 times
(benchmarks/profile.md)."""


@dataclass(frozen=True)
class Filtering:
    """How m results come at once. With values d (m + 2) and taps g (3) they are
    `after @ ((of_taps @ g) * (before @ d))`, which is d[i] g[0] + d[i + 1] g[1] + d[i + 2] g[2] for i in 0 .. m - 1.

    Attributes:
        before: (m + 2, m + 2), float64.
        of_taps: (m + 2, 3), float64.
        after: (m, m + 2), float64.
    """

    before: NDArray[np.float64]
    of_taps: NDArray[np.float64]
    after: NDArray[np.float64]

    @property
    def results(self) -> int:
        """m, the number of results at once."""
        return len(self.after)


@cache
def filtering(results: int) -> Filtering:
    """The filtering for 2 or 4 results at once.

    Raises:
        KeyError: another number of results.
    """
    points = _POINTS[results]
    size = results + TAPS - 1
    before, of_taps, after = np.zeros((size, size)), np.zeros((size, TAPS)), np.zeros((results, size))
    for index, point in enumerate(points):
        others = [other for other in points if other != point]
        before[index, :-1] = np.poly(others)[::-1]
        of_taps[index] = [point**power / np.prod([point - other for other in others]) for power in range(TAPS)]
        after[:, index] = [point**power for power in range(results)]
    before[-1] = np.poly(points)[::-1]
    of_taps[-1, -1] = after[-1, -1] = 1
    return Filtering(before, of_taps, after)
