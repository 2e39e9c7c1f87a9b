"""The measure of a result against its reference."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["psnr"]


def psnr(ours: NDArray[Any], reference: NDArray[Any], peak: float | None = None) -> float:
    """Return the peak signal-to-noise ratio in dB: 200 for equal arrays, -inf for NaN or infinity.

    Args:
        ours: the result.
        reference: the reference, of the same shape.
        peak: the peak; by default the range (max - min) of the reference.
    """
    peak = float(np.ptp(reference)) if peak is None else peak
    error = float(np.mean(np.square(ours.astype(np.float64) - reference)))
    if not np.isfinite(error):
        return float("-inf")
    return min(200.0, 10 * float(np.log10((peak or 1.0) ** 2 / error))) if error else 200.0
