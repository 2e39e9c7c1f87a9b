"""Arrays in the `repr` of results: their dtype and shape, and not their numbers."""

from typing import Any

import numpy as np

__all__ = ["array_text"]


def array_text(array: Any) -> str:
    """An array as text, such as "float32 (1, 3, 64, 96)". An object on a device is named by its type."""
    if isinstance(array, np.ndarray):
        return f"{array.dtype} {array.shape}"
    shape = getattr(array, "shape", None)
    return type(array).__name__ if shape is None else f"{type(array).__name__} {tuple(shape)}"
