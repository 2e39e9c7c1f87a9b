"""float32 arrays in a narrower precision, rounded to nearest, ties to even."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import CheckpointError

__all__ = ["ITEM_BYTES", "narrowed"]

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def narrowed(values: NDArray[np.float32], dtype: str, what: str) -> NDArray[Any]:
    """`values` as float32, float16, or the 16 raw bits of bfloat16 (uint16: NumPy has no bfloat16).

    Raises:
        CheckpointError: a finite value that float16 cannot hold; `what` names the tensor.
    """
    if dtype == "float32":
        return np.ascontiguousarray(values, "<f4")
    if dtype == "float16":
        with np.errstate(over="ignore"):
            result = values.astype("<f2")
        if np.isinf(result).any() and not np.isinf(values).any():
            raise CheckpointError(
                f"{what} holds {float(np.abs(values).max()):g}, which float16 cannot (65504 is its largest): "
                f"export bfloat16 or float32"
            )
        return result
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype("<u2")
