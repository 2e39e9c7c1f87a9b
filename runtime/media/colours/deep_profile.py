"""Colours of 16 bits from the space of an ICC profile to sRGB, for profiles of a matrix and curves.

Pillow's ImageCms takes 8 bits a sample. These are too few where a profile spreads dark values far apart, as linear
light and the widest spaces (ProPhoto) do: the nearest of 255 levels is then up to 6 levels of sRGB off. A profile of a
matrix and curves is a short formula (ICC.1:2022, annex F), which is computed here. Profiles of tables stay with lcms.
"""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .profile import SRGB, SRGB_CURVE, icc_profile

__all__ = ["deep_to_srgb"]

_STEPS = 65535
_BAND_PIXELS = 1 << 18
_MOST_TAGS = 100
_PARAMETERS = (1, 3, 4, 5, 7)  # of the parametric curves 0 to 4


@dataclass(frozen=True, eq=False)
class _Shaper:
    """Light for each 16-bit code of each channel, and where it lies in XYZ (D50). Gray has one channel, no matrix."""

    curves: NDArray[np.float32]
    matrix: NDArray[np.float64] | None


def deep_to_srgb(data: bytes, deep: NDArray[np.uint16]) -> NDArray[np.uint8] | None:
    """Convert a picture of 16 bits to sRGB.

    Args:
        data: the ICC profile.
        deep: uint16 (H, W, C), C = 1 or 3. An RGB profile takes gray too.

    Returns:
        A fresh uint8 (H, W, 3). None if the profile is not one of curves and a matrix, or of another kind.
    """
    try:
        shaper = _shaper(data)
    except (struct.error, ValueError, IndexError, ArithmeticError):
        return None
    if shaper is None or deep.shape[2] not in (1, len(shaper.curves)):
        return None
    if shaper.curves[:, 0].any():  # lcms moves such a black to sRGB's (black point compensation)
        return None
    converted = np.empty((*deep.shape[:2], 3), np.uint8)
    to_linear = None
    if shaper.matrix is not None:
        srgb = _shaper(icc_profile(SRGB))
        assert srgb is not None
        assert srgb.matrix is not None
        to_linear = (np.linalg.inv(srgb.matrix) @ shaper.matrix).T.astype(np.float32)
    rows = max(1, _BAND_PIXELS // deep.shape[1])
    for top in range(0, len(deep), rows):
        band = deep[top : top + rows]
        channels = [curve[band[..., place % deep.shape[2]]] for place, curve in enumerate(shaper.curves)]
        light = np.stack(channels, axis=-1)
        if to_linear is not None:
            light = light @ to_linear
        converted[top : top + rows] = _codes(light)
    return converted


def _codes(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    light = np.clip(light, 0, 1)
    gamma, scale, offset, slope, low = (np.float32(value) for value in SRGB_CURVE)
    bent = (np.power(light, 1 / gamma) - offset) / scale
    codes: NDArray[np.uint8] = np.rint(255 * np.where(light <= low * slope, light / slope, bent)).astype(np.uint8)
    return codes


def _shaper(data: bytes) -> _Shaper | None:
    space, connection = data[16:20], data[20:24]
    (count,) = struct.unpack_from(">I", data, 128)
    tags = {}
    for place in range(min(count, _MOST_TAGS)):
        name, start, length = struct.unpack_from(">4sII", data, 132 + 12 * place)
        tags[name] = data[start : start + length]
    if connection != b"XYZ " or any(name[:3] in (b"A2B", b"D2B") for name in tags):
        return None
    if space == b"GRAY" and b"kTRC" in tags:
        return _Shaper(_curve(tags[b"kTRC"])[np.newaxis], None)
    names = (b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC")
    if space != b"RGB " or not all(name in tags for name in names):
        return None
    columns = [struct.unpack_from(">3i", tags[name], 8) for name in names[:3]]
    return _Shaper(np.stack([_curve(tags[name]) for name in names[3:]]), np.array(columns).T / 65536)


def _curve(tag: bytes) -> NDArray[np.float32]:
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
    slope, start, above, below = 0.0, -b / a, 0.0, 0.0  # the curve below `start`: a line
    if kind == 2:
        above = below = rest[0]
    elif kind > 2:
        slope, start, *offsets = rest
        above, below = offsets or (0.0, 0.0)
    light = np.where(code >= start, np.maximum(a * code + b, 0) ** gamma + above, slope * code + below)
    if not np.isfinite(light).all():
        raise ValueError("a curve without values")
    return light.astype(np.float32)
