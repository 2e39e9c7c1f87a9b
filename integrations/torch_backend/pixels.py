"""Pixels from a sample, made on the device: a quarter of the bytes is copied to the host."""

import torch
from torch import Tensor

__all__ = ["to_pixels"]


def to_pixels(sample: Tensor) -> Tensor:
    """As `runtime.arrays.pixels.to_pixels`, with the same bytes.

    Args:
        sample: float32 (B, C, H, W) or (B, C, T, H, W), about [-1, 1]. Its values are overwritten.

    Returns:
        uint8 in [0, 255], contiguous (B, H, W, C) or (B, T, H, W, C). NaN becomes 0.
    """
    least, most = sample.new_zeros(()), sample.new_full((), 255.0)
    sample.add_(1).mul_(127.5)
    torch.fmax(sample, least, out=sample)  # as in NumPy, fmax turns NaN into 0
    torch.fmin(sample, most, out=sample)
    axes = (0, *range(2, sample.ndim), 1)
    return sample.round_().to(torch.uint8).permute(axes).contiguous()
