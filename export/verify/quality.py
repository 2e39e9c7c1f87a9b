"""Two measures of a result against a reference: PSNR, and the visibility of tile borders."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...runtime.selftest.psnr import psnr
from ...tiling import Plan

__all__ = ["psnr", "seam_ratio"]

_TINY = 1e-30  # added to energies, since the gradient of a constant array is 0


def seam_ratio(tiled: NDArray[np.float32], whole: NDArray[np.float32], plan: Plan) -> float:
    """Return how much the borders of tiles stand out; 1 means not at all.

    For each tiled axis, the share of a result is its gradient energy across tile borders over that at other places. The
    ratio is the share of `tiled` over the share of `whole`, and the largest ratio of all axes is returned. Borders are
    the places where the weights of a tile begin or end.

    Args:
        tiled: the result in tiles, (B, C, ...).
        whole: the result of a single pass, of the same shape.
        plan: the plan of the tiles.
    """
    ratios = []
    for axis, line in enumerate(plan.lines, 2):
        borders = {piece.target.start for piece in line.pieces} | {piece.target.stop for piece in line.pieces}
        places = [border - 1 for border in sorted(borders - {0, line.target_size})]
        if places:
            ratios.append(_share_at(tiled, axis, places) / _share_at(whole, axis, places))
    return max(ratios, default=1.0)


def _share_at(array: NDArray[np.float32], axis: int, places: Sequence[int]) -> float:
    """Return the mean gradient energy at `places` over that elsewhere. Place k is between elements k and k + 1."""
    gradient = np.square(np.diff(array.astype(np.float64), axis=axis))
    energy = gradient.mean(axis=tuple(other for other in range(gradient.ndim) if other != axis)) + _TINY
    elsewhere = np.delete(energy, places)
    return float(energy[list(places)].mean() / (elsewhere.mean() if elsewhere.size else _TINY))
