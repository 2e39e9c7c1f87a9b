"""Conversion between pixels (uint8 in [0, 255], channels last) and samples (float32 in [-1, 1], channels first).

A clip of 121 frames of 768 x 512 takes 571 MB in float32. So both directions convert small blocks of rows that stay in
the processor's cache. In addition to the result they need one small buffer, and never a second copy of the clip.
"""

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

__all__ = ["to_pixels", "to_samples"]

_Scalar = TypeVar("_Scalar", bound=np.generic)
_HALF = np.float32(127.5)
_ONE = np.float32(1)
_BLOCK_VALUES = 1 << 16  # float32 values converted at a time: 256 KiB, which fits the second-level cache


def to_samples(pixels: NDArray[np.uint8], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Convert pixels to a sample: x / 127.5 - 1.

    Args:
        pixels: uint8 (B, H, W, C) or (B, T, H, W, C), with any strides.
        out: float32 (B, C, H, W) or (B, C, T, H, W) to write into, with any strides. None makes a new array.

    Returns:
        `out`, or a new contiguous array of that shape. The values are in [-1, 1]. The caller owns the array.

    Raises:
        InputError: `pixels` is not uint8 of rank 4 or 5, or `out` does not fit it.
    """
    _check(pixels, np.dtype(np.uint8), "pixels", "uint8 (B, H, W, C) or (B, T, H, W, C)")
    axes = (0, 3, 1, 2) if pixels.ndim == 4 else (0, 4, 1, 2, 3)
    source = pixels.transpose(axes)
    result = _output(out, source.shape, np.dtype(np.float32))
    for index, rows in _blocks(source.shape):
        block = result[index][rows]
        block[...] = source[index][rows]
        block /= _HALF
        block -= _ONE
    return result


def to_pixels(samples: NDArray[np.float32], out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Convert a sample to pixels: (x + 1) * 127.5, rounded half to even and clipped to [0, 255].

    NaN becomes 0. Infinities become 0 or 255. `to_pixels(to_samples(x))` equals x for all pixels x.

    Args:
        samples: float32 (B, C, H, W) or (B, C, T, H, W), with any strides, nominally in [-1, 1].
        out: uint8 (B, H, W, C) or (B, T, H, W, C) to write into, with any strides. None makes a new array.

    Returns:
        `out`, or a new contiguous array of that shape. The caller owns it.

    Raises:
        InputError: `samples` is not float32 of rank 4 or 5, or `out` does not fit it.
    """
    _check(samples, np.dtype(np.float32), "samples", "float32 (B, C, H, W) or (B, C, T, H, W)")
    axes = (0, 2, 3, 1) if samples.ndim == 4 else (0, 2, 3, 4, 1)
    result = _output(out, tuple(samples.shape[axis] for axis in axes), np.dtype(np.uint8))
    target = result.transpose((0, 3, 1, 2) if samples.ndim == 4 else (0, 4, 1, 2, 3))
    scratch = np.empty((0, 0), np.float32)
    bytes_scratch = np.empty((0, 0), np.uint8)
    with np.errstate(over="ignore", invalid="ignore"):  # the output of a broken model still becomes a picture
        for index, rows in _blocks(samples.shape):
            block = samples[index][rows]
            if scratch.shape != block.shape:
                scratch = np.empty(block.shape, np.float32)
                bytes_scratch = np.empty(block.shape, np.uint8)
            np.add(block, _ONE, out=scratch)
            np.multiply(scratch, _HALF, out=scratch)
            np.fmax(scratch, np.float32(0), out=scratch)  # fmax turns NaN into 0; np.maximum keeps NaN
            np.fmin(scratch, np.float32(255), out=scratch)
            np.rint(scratch, out=scratch)
            # Two steps are faster than one: NumPy vectorises a contiguous cast, and not a strided one.
            np.copyto(bytes_scratch, scratch, casting="unsafe")
            target[index][rows] = bytes_scratch
    return result


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], slice]]:
    """Cut an array of shape (..., H, W) into blocks of rows: the index of each block's plane, and its rows."""
    height, width = shape[-2:]
    step = max(1, _BLOCK_VALUES // max(1, width))
    for index in np.ndindex(*shape[:-2]):
        for start in range(0, height, step):
            yield index, slice(start, start + step)


def _check(array: object, dtype: np.dtype[np.generic], name: str, wanted: str) -> None:
    if not isinstance(array, np.ndarray):
        raise InputError(f"{name} must be a NumPy array, {wanted}, got {type(array).__name__}: convert it first")
    if array.dtype != dtype or array.ndim not in (4, 5):
        raise InputError(f"{name} must be {wanted}, got {array.dtype} {array.shape}: convert or reshape it first")


def _output(out: NDArray[_Scalar] | None, shape: tuple[int, ...], dtype: np.dtype[_Scalar]) -> NDArray[_Scalar]:
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray) or out.dtype != dtype or out.shape != shape or not out.flags.writeable:
        got = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise InputError(f"out must be a writeable {dtype} array of shape {shape}, got {got}: give such an array")
    return out
