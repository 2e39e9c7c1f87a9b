"""Rounding float32 arrays to a narrower precision: to the nearest value, ties to even."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import CheckpointError

__all__ = ["ITEM_BYTES", "narrowed"]

# Bytes per element of the precisions that a bundle can store.
ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def narrowed(values: NDArray[np.float32], dtype: str, name: str) -> NDArray[Any]:
    """Round an array to `dtype`.

    Args:
        values: array of any shape.
        dtype: "float32", "float16" or "bfloat16".
        name: name of the tensor, for the error message.

    Returns:
        An array of the same shape: float32, float16, or the raw bits of bfloat16 as uint16. (NumPy has no bfloat16.)

    Raises:
        CheckpointError: float16 cannot hold a finite value.
    """
    if dtype == "float32":
        return np.ascontiguousarray(values, "<f4")
    if dtype == "float16":
        with np.errstate(over="ignore"):
            result = values.astype("<f2")
        if np.isinf(result).any() and not np.isinf(values).any():
            raise CheckpointError(
                f"{name} holds {float(np.abs(values).max()):g}, which float16 cannot hold (its largest is 65504): "
                f"export bfloat16 or float32"
            )
        return result
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype("<u2")
