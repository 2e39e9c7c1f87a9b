"""uint8 pixels where a sample is wanted: `encode` takes them as `decode(output="uint8")` gives them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .given_array import host_array

__all__ = ["given_pixels", "size_of"]


def given_pixels(array: Any, channels: int, *, video: bool) -> NDArray[np.uint8] | None:
    """Check pixels that were given for a sample.

    Args:
        array: what the caller gave for the sample.
        channels: the channels that the model takes.
        video: whether the model takes clips.

    Returns:
        uint8 (B, H, W, C) for images or (B, T, H, W, C) for video. None if `array` is not uint8.

    Raises:
        InputError: the pixels have another shape, or are on a device.
    """
    if not _is_uint8(array):
        return None
    pixels = host_array(array, "sample")
    axes, rank = ("(B, T, H, W, C)", 5) if video else ("(B, H, W, C)", 4)
    got = f"sample: wanted uint8 pixels {axes} with C = {channels}, got shape {pixels.shape}"
    if pixels.ndim == rank and pixels.shape[-1] == channels:
        if 0 in pixels.shape:
            raise InputError(f"{got}: give at least one picture")
        return pixels
    if pixels.ndim == rank and pixels.shape[1] == channels:
        order = (0, *range(2, rank), 1)
        raise InputError(f"{got}: move the channels to the end, with x.transpose{order}")
    if pixels.ndim == rank - 1 and pixels.shape[-1] == channels:
        raise InputError(f"{got}: add the axis of the batch, with x[numpy.newaxis]")
    raise InputError(f"{got}: reshape it, or give a float32 sample in [-1, 1]")


def size_of(array: Any) -> tuple[int, ...]:
    """The size (H, W) or (T, H, W) of a sample (B, C, ...) or of uint8 pixels (B, ..., C)."""
    shape = tuple(array.shape)
    return shape[1:-1] if _is_uint8(array) else shape[2:]


def _is_uint8(array: Any) -> bool:
    """Whether an array of any library holds uint8: NumPy's dtype, or "torch.uint8"."""
    dtype = getattr(array, "dtype", None)
    if dtype is None and hasattr(array, "__array_interface__"):  # a Pillow image
        return str(array.__array_interface__.get("typestr", "")).endswith("u1")
    return str(dtype).removeprefix("torch.") == "uint8"
