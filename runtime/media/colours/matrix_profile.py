"""Conversion of 16-bit colours from an ICC profile to sRGB, for profiles that consist of a matrix and curves.

Pillow's ImageCms takes 8 bits per sample. That is too few for profiles that spread dark values far apart, such as
linear light and very wide spaces (ProPhoto): rounding to 8 bits then makes errors of up to 6 levels of sRGB. A profile
of a matrix and curves is a short formula (ICC.1:2022, annex F), which is computed here. lcms converts profiles with
tables.
"""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .profile import SRGB, SRGB_CURVE, icc_profile

__all__ = ["deep_to_srgb"]

_STEPS = 65535  # the largest 16-bit code
_BAND_PIXELS = 1 << 18  # converted at a time
_MOST_TAGS = 100  # of a profile that are read
_PARAMETERS = (1, 3, 4, 5, 7)  # how many parameters the ICC's parametric curves 0 to 4 have


@dataclass(frozen=True, eq=False)
class _MatrixProfile:
    """A profile that consists of a matrix and curves.

    Attributes:
        curves: float32 (C, 65536), the light in [0, 1] for each 16-bit code of each channel. C = 1 (gray) or 3.
        matrix: float64 (3, 3), from linear RGB to XYZ (D50). None for gray.
    """

    curves: NDArray[np.float32]
    matrix: NDArray[np.float64] | None


def deep_to_srgb(data: bytes, deep: NDArray[np.uint16]) -> NDArray[np.uint8] | None:
    """Convert a 16-bit picture to sRGB.

    Args:
        data: the ICC profile.
        deep: uint16 (H, W, C), C = 1 or 3. An RGB profile takes gray too.

    Returns:
        A new uint8 array (H, W, 3). None if the profile does not consist of a matrix and curves, if its black is not 0,
        or if it does not fit C.
    """
    try:
        profile = _matrix_profile(data)
    except (struct.error, ValueError, IndexError, ArithmeticError):
        return None
    if profile is None or deep.shape[2] not in (1, len(profile.curves)):
        return None
    if profile.curves[:, 0].any():  # lcms maps such a black to sRGB's black (black point compensation)
        return None
    converted = np.empty((*deep.shape[:2], 3), np.uint8)
    to_linear = None
    if profile.matrix is not None:
        srgb = _matrix_profile(icc_profile(SRGB))
        assert srgb is not None
        assert srgb.matrix is not None
        to_linear = (np.linalg.inv(srgb.matrix) @ profile.matrix).T.astype(np.float32)
    rows = max(1, _BAND_PIXELS // deep.shape[1])
    for top in range(0, len(deep), rows):
        band = deep[top : top + rows]
        channels = [curve[band[..., place % deep.shape[2]]] for place, curve in enumerate(profile.curves)]
        light = np.stack(channels, axis=-1)
        if to_linear is not None:
            light = light @ to_linear
        converted[top : top + rows] = _codes(light)
    return converted


def _codes(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    """sRGB code values of linear light."""
    light = np.clip(light, 0, 1)
    gamma, scale, offset, slope, low = (np.float32(value) for value in SRGB_CURVE)
    bent = (np.power(light, 1 / gamma) - offset) / scale
    codes: NDArray[np.uint8] = np.rint(255 * np.where(light <= low * slope, light / slope, bent)).astype(np.uint8)
    return codes


def _matrix_profile(data: bytes) -> _MatrixProfile | None:
    """Parse an ICC profile. None if it does not consist of a matrix and curves."""
    space, connection = data[16:20], data[20:24]
    (count,) = struct.unpack_from(">I", data, 128)
    tags = {}
    for place in range(min(count, _MOST_TAGS)):
        name, start, length = struct.unpack_from(">4sII", data, 132 + 12 * place)
        tags[name] = data[start : start + length]
    if connection != b"XYZ " or any(name[:3] in (b"A2B", b"D2B") for name in tags):
        return None
    if space == b"GRAY" and b"kTRC" in tags:
        return _MatrixProfile(_curve(tags[b"kTRC"])[np.newaxis], None)
    names = (b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC")
    if space != b"RGB " or not all(name in tags for name in names):
        return None
    columns = [struct.unpack_from(">3i", tags[name], 8) for name in names[:3]]
    return _MatrixProfile(np.stack([_curve(tags[name]) for name in names[3:]]), np.array(columns).T / 65536)


def _curve(tag: bytes) -> NDArray[np.float32]:
    """The light for each 16-bit code, by the content of a curve tag ("curv" or "para")."""
    code = np.arange(_STEPS + 1) / _STEPS
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        if count > 1:
            points = np.frombuffer(tag, ">u2", count, 12) / _STEPS
            return np.interp(code, np.linspace(0, 1, count), points).astype(np.float32)
        gamma = struct.unpack_from(">H", tag, 12)[0] / 256 if count else 1.0
        return (code**gamma).astype(np.float32)
    if tag[:4] != b"para":
        raise ValueError("a curve of an unknown type")
    (kind,) = struct.unpack_from(">H", tag, 8)
    values = [value / 65536 for value in struct.unpack_from(f">{_PARAMETERS[kind]}i", tag, 12)]
    gamma, a, b, *rest = values if kind else [*values, 1.0, 0.0]
    slope, start, above, below = 0.0, -b / a, 0.0, 0.0  # below `start` the curve is a line
    if kind == 2:
        above = below = rest[0]
    elif kind > 2:
        slope, start, *offsets = rest
        above, below = offsets or (0.0, 0.0)
    light = np.where(code >= start, np.maximum(a * code + b, 0) ** gamma + above, slope * code + below)
    if not np.isfinite(light).all():
        raise ValueError("a curve without values")
    return light.astype(np.float32)
