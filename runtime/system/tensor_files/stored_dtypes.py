"""The floating-point dtypes of stored weights, and their conversion to float32.

The names are those of safetensors. NumPy has neither bfloat16 nor the two kinds of float8 (OCP 8-bit floating point:
E4M3 without infinities, E5M2 as a short float16), so these are read as raw bits.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["STORED_DTYPES", "widened"]

# safetensors name -> NumPy dtype in which the bytes are read.
STORED_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "F8_E4M3": np.dtype("u1"),
    "F8_E5M2": np.dtype("u1"),
}


def widened(raw: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """Convert stored values to float32. The conversion is exact, except that float64 is rounded.

    Args:
        raw: values of the NumPy dtype `STORED_DTYPES[dtype]`.
        dtype: stored dtype by its safetensors name.

    Returns:
        A float32 array of the same shape.
    """
    if dtype == "BF16":
        bits = raw.astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    if dtype == "F8_E5M2":
        return (raw.astype(np.uint16) << 8).view(np.float16).astype(np.float32)
    if dtype == "F8_E4M3":
        return np.asarray(_e4m3_values()[raw])
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and infinite weights are refused
        return np.asarray(raw, dtype=np.float32)


@cache
def _e4m3_values() -> NDArray[np.float32]:
    """The values of the 256 codes: 1 bit sign, 4 bits exponent (bias 7), 3 bits fraction."""
    codes = np.arange(256)
    exponent, fraction = codes >> 3 & 15, codes & 7
    normal = np.ldexp(1 + fraction / 8, exponent - 7)
    magnitude = np.where(exponent == 0, np.ldexp(fraction / 8, -6), normal)
    magnitude[codes & 127 == 127] = np.nan
    return np.where(codes < 128, magnitude, -magnitude).astype(np.float32)
