"""The distance of a result to the reference, on the host or on the GPU."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["psnr_db", "psnr_to"]

_MAX_DB = 200.0  # of equal arrays
_AT_ONCE = 1 << 24  # values that are compared at a time; in float64 they take 128 MiB


def psnr_to(wanted: Path, result: Any, device: str) -> float | None:
    """Return `psnr_db` of a result to the reference in a .npy file; None without the file."""
    return psnr_db(result, np.load(wanted), device) if wanted.exists() else None


def psnr_db(result: Any, wanted: Any, device: str) -> float:
    """Return the peak signal-to-noise ratio in dB: at most 200, and 0 if the result holds NaN or infinity.

    Tensors, and arrays on a machine with a GPU, are compared on the device and in pieces: comparing two clips in
    float64 takes longer on the host than all measurements. Other arrays are compared by
    `latentrt.export.verify.quality.psnr`.

    Args:
        result: array or tensor of the shape of `wanted`; or uint8 pixels, channels last, which are compared with
            `wanted` clipped to [-1, 1].
        wanted: the reference, (B, C, ...); its range is the peak.
        device: "cuda" or "cpu".
    """
    if device == "cpu" and isinstance(result, np.ndarray):
        return _on_host(result, wanted)
    return _on_device(result, wanted, device)


def _on_host(result: NDArray[Any], wanted: NDArray[np.float32]) -> float:
    from latentrt.export.verify.quality import psnr
    from latentrt.runtime.arrays.pixels import to_samples

    if result.dtype == np.uint8:
        result, wanted = to_samples(result), np.clip(wanted, -1, 1)
    return max(psnr(result, wanted), 0.0)


def _on_device(result: Any, wanted: Any, device: str) -> float:
    import torch

    ours, theirs = _tensor(result), _tensor(wanted)
    pixels = ours.dtype == torch.uint8
    if pixels:
        ours = ours.movedim(-1, 1)
    if ours.shape != theirs.shape:
        raise ValueError(f"wanted a result of shape {tuple(theirs.shape)}, got {tuple(ours.shape)}")
    step = max(_AT_ONCE // max(theirs[:, :, :1].numel(), 1), 1)
    total, low, high = 0.0, float("inf"), float("-inf")
    for first in range(0, theirs.shape[2], step):
        left, right = (array[:, :, first : first + step].to(device) for array in (ours, theirs))
        if pixels:
            left, right = left.double() / 127.5 - 1, right.clamp(-1, 1)
        total += float((left.double() - right.double()).square().sum())
        low, high = min(low, float(right.min())), max(high, float(right.max()))
    if not np.isfinite(total):
        return 0.0
    error, peak = total / theirs.numel(), (high - low) or 1.0
    return min(_MAX_DB, max(10 * float(np.log10(peak**2 / error)), 0.0)) if error else _MAX_DB


def _tensor(values: Any) -> Any:
    import torch

    return values if isinstance(values, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(values))
