"""Conversion of colours to BT.709 from other primaries and transfer curves: HDR, wide gamut, linear and log video.

Primaries and curves have the numbers of ITU-T H.273, as in FFmpeg. The conversion is display-referred:

1. The curve's EOTF converts code values to light. PQ: SMPTE ST 2084. HLG: BT.2100, with its OOTF for a display of
   1000 cd/m2. SDR curves: BT.1886 without black lift, that is a power of 2.4.
2. HDR light is divided by 203 cd/m2, the reference white of BT.2408, so that graphics white becomes 255.
3. A matrix converts the primaries to those of BT.709. White points are adapted by Bradford's method.
4. Each channel is clipped to [0, 1]. There is no tone curve: every colour that SDR can represent keeps its exact value,
   and highlights above reference white are lost.
5. The inverse of BT.1886 converts light to code values.

FFmpeg's `zscale=t=bt709:p=bt709:npl=203:agamma=0` gives the same values. Without `agamma=0` it applies HLG's OOTF to
each channel separately. That is an approximation with errors of up to 100 of 255 for saturated colours.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .profile import BRADFORD

__all__ = ["ColourSpace"]

_REFERENCE_WHITE = 203.0  # cd/m2, BT.2408
_HLG_PEAK = 1000.0  # cd/m2, the nominal peak of BT.2100's OOTF
_PQ, _HLG = 16, 18
_TRANSFERS = {
    4: "gamma 2.2",
    5: "gamma 2.8",
    7: "SMPTE 240M",
    8: "linear light",
    9: "logarithmic light",
    10: "logarithmic light",
    _PQ: "PQ (HDR)",
    _HLG: "HLG (HDR)",
}
# BT.709, unspecified, BT.601, xvYCC, sRGB and BT.2020 in SDR. Code values of these curves are kept, as players and
# picture tools do: they have the same display curve (BT.1886), except sRGB, which is the curve of the models.
_PLAIN_TRANSFERS = frozenset({0, 1, 2, 3, 6, 11, 12, 13, 14, 15})
_D65, _C = (0.3127, 0.3290), (0.310, 0.316)
# The chromaticities x and y of red, green, blue and white (ITU-T H.273, table 2).
_PRIMARIES: dict[int, tuple[str, tuple[tuple[float, float], ...]]] = {
    1: ("BT.709", ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65)),
    4: ("BT.470 M", ((0.670, 0.330), (0.210, 0.710), (0.140, 0.080), _C)),
    5: ("BT.601 (625 lines)", ((0.640, 0.330), (0.290, 0.600), (0.150, 0.060), _D65)),
    6: ("BT.601 (525 lines)", ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65)),
    7: ("SMPTE 240M", ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65)),
    8: ("film", ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), _C)),
    9: ("BT.2020", ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65)),
    10: ("XYZ", ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (1 / 3, 1 / 3))),
    11: ("DCI-P3", ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351))),
    12: ("Display P3", ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65)),
    22: ("EBU 3213", ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), _D65)),
}
_UNSPECIFIED_PRIMARIES = frozenset({0, 2, 3})
_STEPS = 65535  # the code of white
_MOST_CODE = 2  # the largest code that counts, as a multiple of white


@dataclass(frozen=True)
class ColourSpace:
    """The colour space of RGB pixels, by the numbers of ITU-T H.273.

    Attributes:
        primaries: the number of the primaries.
        transfer: the number of the transfer curve.
    """

    primaries: int
    transfer: int

    @property
    def supported(self) -> bool:
        """Whether `to_bt709` can convert from this space."""
        known_curve = self.transfer in _PLAIN_TRANSFERS or self.transfer in _TRANSFERS
        return known_curve and (self.primaries in _PRIMARIES or self.primaries in _UNSPECIFIED_PRIMARIES)

    @property
    def is_plain(self) -> bool:
        """Whether code values need no conversion."""
        return self.transfer in _PLAIN_TRANSFERS and self._primaries == 1

    @property
    def is_hdr(self) -> bool:
        """Whether the transfer curve is PQ or HLG."""
        return self.transfer in (_PQ, _HLG)

    def __str__(self) -> str:
        """The curve and the primaries that differ from BT.709, such as "PQ (HDR), BT.2020 primaries"."""
        curve = _TRANSFERS.get(self.transfer)
        primaries = None if self._primaries == 1 else f"{_PRIMARIES[self._primaries][0]} primaries"
        return ", ".join(word for word in (curve, primaries) if word)

    def to_bt709(self, codes: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Convert RGB pixels to BT.709.

        Args:
            codes: float32 (..., 3), code values with white at 65535. They need not be whole numbers: rounding them
                would be visible near black. Codes up to 131070 count, because YUV can hold codes above white and
                some of them are colours inside BT.709.

        Returns:
            A new uint8 array (..., 3).
        """
        codes = np.clip(codes, 0, _MOST_CODE * _STEPS)
        below = codes.astype(np.int32)
        table, slope = _light_of_codes(self.transfer)
        light = table[below] + slope[below] * (codes - below.astype(np.float32))
        if self.transfer == _HLG:  # the OOTF: a power of 1.2 on the luminance, in the primaries of the source
            luminance = light @ _luminance_weights(self._primaries)
            light *= (np.power(luminance, 0.2) * np.float32(_HLG_PEAK / _REFERENCE_WHITE))[..., np.newaxis]
        if self._primaries != 1:
            light = light @ _to_bt709_matrix(self._primaries).T
        # The square root spreads dark values, so a table of 65536 entries is exact to 1/50 of a level.
        places = np.sqrt(np.clip(light, 0, 1)) * np.float32(_STEPS) + np.float32(0.5)
        converted: NDArray[np.uint8] = _codes_of_light()[places.astype(np.uint16)]
        return converted

    @property
    def _primaries(self) -> int:
        if self.primaries in _UNSPECIFIED_PRIMARIES:
            return 9 if self.is_hdr else 1  # PQ and HLG are defined for the primaries of BT.2020
        return self.primaries


@cache
def _light_of_codes(transfer: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The light for each code from 0 to 131070, and the step to the light of the next code.

    White (for HDR, reference white) has the light 1. For HLG this is scene light, before the OOTF.
    """
    code = np.arange(_MOST_CODE * _STEPS + 1) / _STEPS
    match transfer:
        case 4:
            light = code**2.2
        case 5:
            light = code**2.8
        case 7:  # undo its camera curve and apply BT.709's, because both are shown on the same display
            scene = np.where(code < 0.0913, code / 4, ((code + 0.1115) / 1.1115) ** (1 / 0.45))
            light = np.where(scene < 0.018, 4.5 * scene, 1.099 * scene**0.45 - 0.099).clip(0) ** 2.4
        case 8:
            light = code
        case 9:
            light = 10 ** (2 * (code - 1))
        case 10:
            light = 10 ** (2.5 * (code - 1))
        case 16:  # ST 2084, equation 4.1
            root = np.minimum(code, 1) ** (32 / 2523)  # PQ ends at 10,000 cd/m2
            ratio = np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)
            light = 10000 / _REFERENCE_WHITE * ratio ** (16384 / 2610)
        case 18:  # BT.2100 table 5, the inverse of its OETF
            a, b, c = 0.17883277, 0.28466892, 0.55991073
            light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
        case _:
            light = code**2.4
    return light.astype(np.float32), np.append(np.diff(light), 0).astype(np.float32)


@cache
def _codes_of_light() -> NDArray[np.uint8]:
    """The 8-bit codes by the inverse of BT.1886, for each of 65536 square roots of light."""
    root = np.arange(_STEPS + 1) / _STEPS
    return np.rint(255 * root ** (2 / 2.4)).astype(np.uint8)


@cache
def _to_bt709_matrix(primaries: int) -> NDArray[np.float32]:
    source, wanted = _PRIMARIES[primaries][1], _PRIMARIES[1][1]
    cones_from, cones_to = BRADFORD @ _white(source), BRADFORD @ _white(wanted)
    adapt = np.linalg.inv(BRADFORD) @ np.diag(cones_to / cones_from) @ BRADFORD
    matrix: NDArray[np.float32] = (np.linalg.inv(_to_xyz(wanted)) @ adapt @ _to_xyz(source)).astype(np.float32)
    return matrix


@cache
def _luminance_weights(primaries: int) -> NDArray[np.float32]:
    weights: NDArray[np.float32] = _to_xyz(_PRIMARIES[primaries][1])[1].astype(np.float32)
    return weights


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> NDArray[np.float64]:
    """The matrix from linear RGB to CIE XYZ (SMPTE RP 177)."""
    columns = np.array([(x, y, 1 - x - y) for x, y in primaries[:3]]).T
    scale: NDArray[np.float64] = np.linalg.solve(columns, _white(primaries))
    return columns * scale


def _white(primaries: tuple[tuple[float, float], ...]) -> NDArray[np.float64]:
    x, y = primaries[3]
    return np.array([x / y, 1, (1 - x - y) / y])
