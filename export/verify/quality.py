"""Two numbers for how close a result is to a reference: PSNR, and how much tile borders stand out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...tiling import Plan

__all__ = ["psnr", "seam_ratio"]

_TINY = 1e-30  # a constant array has no gradient


def psnr(ours: NDArray[Any], reference: NDArray[Any], peak: float | None = None) -> float:
    """Peak signal-to-noise ratio in dB, at most 200 (equal arrays); `peak` defaults to the reference's range."""
    peak = float(np.ptp(reference)) if peak is None else peak
    error = float(np.mean(np.square(ours.astype(np.float64) - reference)))
    if not np.isfinite(error):
        return float("-inf")
    return min(200.0, 10 * float(np.log10((peak or 1.0) ** 2 / error))) if error else 200.0


def seam_ratio(tiled: NDArray[np.float32], whole: NDArray[np.float32], plan: Plan) -> float:
    """How much the borders of tiles stand out: the gradient energy of `tiled`, (B, C, ...), across tile borders over
    that elsewhere, divided by the same of `whole`; of all tiled axes the largest. 1: not at all.

    A border is where a tile's weights begin, or end.
    """
    ratios = []
    for axis, line in enumerate(plan.lines, 2):
        borders = {piece.target.start for piece in line.pieces} | {piece.target.stop for piece in line.pieces}
        places = [border - 1 for border in sorted(borders - {0, line.target_size})]
        if places:
            ratios.append(_share_at(tiled, axis, places) / _share_at(whole, axis, places))
    return max(ratios, default=1.0)


def _share_at(array: NDArray[np.float32], axis: int, places: Sequence[int]) -> float:
    """Mean gradient energy at `places` (place k lies between elements k and k + 1) over that at all other places."""
    gradient = np.square(np.diff(array.astype(np.float64), axis=axis))
    energy = gradient.mean(axis=tuple(other for other in range(gradient.ndim) if other != axis)) + _TINY
    elsewhere = np.delete(energy, places)
    return float(energy[list(places)].mean() / (elsewhere.mean() if elsewhere.size else _TINY))
