"""Mean and variance of a whole picture's groups from those of its rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["GroupStatistics"]


class GroupStatistics:
    """Merges rows of disjoint tiles, in float64 (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm
    for computing sample variances", 1979): exact up to rounding, for any tiles."""

    def __init__(self, batch: int, groups: int) -> None:
        self._count = 0
        self._mean = np.zeros((batch, groups))
        self._squares = np.zeros((batch, groups))  # sums of squared deviations from the mean

    @property
    def result(self) -> dict[str, NDArray[np.float64]]:
        """`mean` and `variance`, (B, groups) each; the variance is the population's, as group norm takes it."""
        return {"mean": self._mean, "variance": self._squares / self._count}

    def add(self, means: NDArray[Any], variances: NDArray[Any], columns: int) -> None:
        """Add a tile: mean and variance (B, C, rows) of its rows, each of `columns` elements; channels of one group
        lie side by side."""
        shape = (*self._mean.shape, -1)
        means, variances = (array.astype(np.float64).reshape(shape) for array in (means, variances))
        mean = means.mean(axis=2)
        squares = columns * (variances + np.square(means - mean[..., None])).sum(axis=2)
        count = columns * means.shape[2]
        total = self._count + count
        delta = mean - self._mean
        self._mean = self._mean + delta * (count / total)
        self._squares = self._squares + squares + np.square(delta) * (self._count * count / total)
        self._count = total
