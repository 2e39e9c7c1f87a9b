"""Two numbers for how close a result is to a reference: PSNR, and how much tile borders stand out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..tiling import Plan

__all__ = ["psnr", "seam_ratio"]


def psnr(ours: NDArray[Any], reference: NDArray[Any], peak: float | None = None) -> float:
    """Peak signal-to-noise ratio in dB, at most 200 (equal arrays); `peak` defaults to the reference's range."""
    peak = float(np.ptp(reference)) if peak is None else peak
    error = float(np.mean(np.square(ours.astype(np.float64) - reference)))
    if not np.isfinite(error):
        return float("-inf")
    return min(200.0, 10 * float(np.log10((peak or 1.0) ** 2 / error))) if error else 200.0


def seam_ratio(tiled: NDArray[np.float32], whole: NDArray[np.float32], plan: Plan) -> float:
    """How much the borders of tiles stand out: over all tiled axes the largest ratio of the gradient energy of
    `tiled - whole`, (B, C, ...), across tile borders to that elsewhere. 1: not at all; 0 where the two are equal.

    A border is where a tile's weights begin, or end.
    """
    difference = tiled.astype(np.float64) - whole
    ratios = [0.0]
    for axis, line in enumerate(plan.lines, 2):
        borders = {piece.target.start for piece in line.pieces} | {piece.target.stop for piece in line.pieces}
        places = sorted(borders - {0, line.target_size})
        if places:
            ratios.append(_energy_ratio(difference, axis, places))
    return max(ratios)


def _energy_ratio(difference: NDArray[np.float64], axis: int, places: Sequence[int]) -> float:
    gradient = np.square(np.diff(difference, axis=axis))
    others = tuple(other for other in range(gradient.ndim) if other != axis)
    energy = gradient.mean(axis=others)  # entry k lies between elements k and k + 1
    at_border = np.zeros(len(energy), bool)
    at_border[[place - 1 for place in places]] = True
    elsewhere = float(energy[~at_border].mean()) if not at_border.all() else 0.0
    return float(energy[at_border].mean()) / elsewhere if elsewhere else 0.0
