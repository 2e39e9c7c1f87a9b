"""The floating-point dtypes that weights are stored in, widened to float32 without rounding (float64 is rounded).

Names are those of safetensors. bfloat16 and the two kinds of float8 (OCP 8-bit floating point: E4M3 without
infinities, E5M2 as a short float16) are read as raw bits, since NumPy has none of them.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["STORED_DTYPES", "widened"]

STORED_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "F8_E4M3": np.dtype("u1"),
    "F8_E5M2": np.dtype("u1"),
}


def widened(raw: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """`raw`, of the NumPy dtype that `STORED_DTYPES` gives for `dtype`, as float32 of the same shape."""
    if dtype == "BF16":
        bits = raw.astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    if dtype == "F8_E5M2":
        return (raw.astype(np.uint16) << 8).view(np.float16).astype(np.float32)
    if dtype == "F8_E4M3":
        return np.asarray(_e4m3_values()[raw])
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, which is refused as such
        return np.asarray(raw, dtype=np.float32)


@cache
def _e4m3_values() -> NDArray[np.float32]:
    """The value of each of the 256 bytes: 1 bit sign, 4 bits exponent (bias 7), 3 bits fraction."""
    codes = np.arange(256)
    exponent, fraction = codes >> 3 & 15, codes & 7
    normal = np.ldexp(1 + fraction / 8, exponent - 7)
    magnitude = np.where(exponent == 0, np.ldexp(fraction / 8, -6), normal)
    magnitude[codes & 127 == 127] = np.nan
    return np.where(codes < 128, magnitude, -magnitude).astype(np.float32)
