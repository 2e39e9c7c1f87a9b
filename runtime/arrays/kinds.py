"""The precisions of a computation and the forms of a result, as types for signatures."""

from typing import Literal, get_args

__all__ = ["DTYPES", "Dtype", "OutputKind"]

Dtype = Literal["float32", "float16", "bfloat16"]
"""The precision of a computation."""
DTYPES: tuple[Dtype, ...] = get_args(Dtype)

OutputKind = Literal["float32", "uint8", "device"]
"""The form of a result: a float32 array, uint8 pixels, or an object with `__dlpack__` on the engine's device."""
