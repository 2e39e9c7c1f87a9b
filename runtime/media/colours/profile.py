"""Making ICC profiles of RGB spaces from their primaries, their white and one curve.

Some pictures name their colour space by numbers (PNG chunks, AVIF, EXIF) instead of an ICC profile. lcms needs a
profile, so one is made from the numbers. The layout follows ICC.1:2022 (version 4.3 of the profile format).
"""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ADOBE_RGB", "BRADFORD", "SRGB", "SRGB_CURVE", "RGBSpace", "icc_profile"]

_D50 = (0.9642, 1.0, 0.8249)  # XYZ of the white point of the ICC's connection space
_CREATED = (2024, 1, 1, 0, 0, 0)  # a constant date, so that equal pictures give equal files

BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
"""The matrix from CIE XYZ to the responses of the eye's cones, by Bradford's method."""

SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""The curve of sRGB (IEC 61966-2-1) as parameters (g, a, b, c, d) of the ICC's parametric curve 3: the light of x is
(a x + b) ^ g from x = d up, and c x below."""


@dataclass(frozen=True)
class RGBSpace:
    """An RGB colour space.

    Attributes:
        name: the name for messages and for the profile's description.
        primaries: the chromaticities x and y (CIE 1931) of red, green and blue.
        white: the chromaticity x and y of white.
        curve: from code values to light: (gamma,), or the five parameters of the ICC's parametric curve 3.
    """

    name: str
    primaries: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    white: tuple[float, float] = (0.3127, 0.3290)
    curve: tuple[float, ...] = SRGB_CURVE


_BT709 = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
SRGB = RGBSpace("sRGB", _BT709)
ADOBE_RGB = RGBSpace("Adobe RGB (1998)", ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), curve=(563 / 256,))


def icc_profile(space: RGBSpace) -> bytes:
    """Make the ICC profile of an RGB space.

    Raises:
        ValueError: the primaries and the white describe no colour space, or a number does not fit a profile.
    """
    columns = _to_d50(space)
    kind = {1: 0, 5: 3}[len(space.curve)]
    curve = b"para" + struct.pack(">IHH", 0, kind, 0) + b"".join(map(_fixed, space.curve))
    parts = {
        b"desc": _text(space.name),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": _xyz(_D50),
        **{name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns.T, strict=True)},
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body, places = b"", b"", dict[bytes, int]()
    start = 128 + 4 + 12 * len(parts)
    for tag, part in parts.items():
        if part not in places:  # the three curves are stored once
            places[part] = start + len(body)
            body += part + bytes(-len(part) % 4)
        table += tag + struct.pack(">II", places[part], len(part))
    header = struct.pack(">I4sI4s4s4s", start + len(body), b"\0" * 4, 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H4s", *_CREATED, b"acsp")
    header = header.ljust(68, b"\0") + b"".join(map(_fixed, _D50))
    return header.ljust(128, b"\0") + struct.pack(">I", len(parts)) + table + body


def _to_d50(space: RGBSpace) -> NDArray[np.float64]:
    """The matrix from linear RGB to XYZ, adapted to D50 by Bradford's method."""
    xyz = np.array([_xyz_of(*point) for point in space.primaries]).T
    white = np.array(_xyz_of(*space.white))
    try:
        matrix = xyz * np.linalg.solve(xyz, white)
    except np.linalg.LinAlgError as error:
        raise ValueError("the primaries lie on one line") from error
    cones, wanted = BRADFORD @ white, BRADFORD @ np.array(_D50)
    if not (np.abs(cones) > 1e-6).all():
        raise ValueError("the white cannot be adapted")
    adapted: NDArray[np.float64] = np.linalg.solve(BRADFORD, np.diag(wanted / cones)) @ BRADFORD @ matrix
    return adapted


def _xyz_of(x: float, y: float) -> tuple[float, float, float]:
    if not 0 < y <= 1 or not 0 <= x <= 1:
        raise ValueError(f"({x}, {y}) is no chromaticity")
    return x / y, 1.0, (1 - x - y) / y


def _fixed(value: float) -> bytes:
    try:
        return struct.pack(">i", round(float(value) * 65536))
    except (struct.error, OverflowError) as error:
        raise ValueError(f"{value} does not fit a profile") from error


def _xyz(values: tuple[float, ...] | NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(map(_fixed, values))


def _text(text: str) -> bytes:
    content = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(content), 28) + content
