"""The display of stored video pixels: rotation, mirroring, and the shape of a pixel."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_ASPECT", "Orientation", "sample_aspect_ratio", "side_data_names"]

MOST_ASPECT = 100
"""The largest sample aspect ratio that counts. The smallest is 1 / MOST_ASPECT."""

_MATRIX_BYTES = 36  # nine 32-bit numbers; the first two of the first two rows rotate and mirror
_SKEW = 0.02  # the tolerance for a quarter turn: about one degree


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to show a stored picture without changing its pixels.

    Attributes:
        transposed: whether rows become columns, before mirroring.
        left_right: whether the picture is mirrored horizontally.
        top_bottom: whether the picture is mirrored vertically.
        exact: False if the file asks for another angle or a skew, and this is only the nearest of the eight ways.
    """

    transposed: bool = False
    left_right: bool = False
    top_bottom: bool = False
    exact: bool = True

    @classmethod
    def of(cls, frame: Any) -> Self:
        """Read the display matrix of an `av.VideoFrame`. Without a usable matrix, the picture stays as it is."""
        try:
            matrix = bytes(frame.side_data["DISPLAYMATRIX"])
        except KeyError:
            return cls()
        if len(matrix) < _MATRIX_BYTES:
            return cls()
        return cls.from_matrix(np.frombuffer(matrix[:_MATRIX_BYTES], "=i4").reshape(3, 3))

    @classmethod
    def from_matrix(cls, matrix: NDArray[np.int32]) -> Self:
        """The orientation for a display matrix whose first two rows begin with (a, b) and (c, d).

        A stored point (x, y) is shown at (x a + y c, x b + y d).
        """
        (a, b), (c, d) = matrix[:2, :2].astype(np.float64)
        straight, crossed = abs(a) + abs(d), abs(b) + abs(c)
        largest, least = max(straight, crossed), min(straight, crossed)
        across, along = (c, b) if crossed > straight else (a, d)
        if largest == 0 or across == 0 or along == 0:
            return cls(exact=largest == 0)
        exact = least <= _SKEW * largest
        return cls(
            transposed=bool(crossed > straight), left_right=bool(across < 0), top_bottom=bool(along < 0), exact=exact
        )

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn and mirror uint8 pixels (H, W, C). The result is a copy unless nothing changes."""
        shown = pixels.swapaxes(0, 1) if self.transposed else pixels
        shown = shown[:: -1 if self.top_bottom else 1, :: -1 if self.left_right else 1]
        return np.ascontiguousarray(shown)


def sample_aspect_ratio(stream: Any, orientation: Orientation) -> Fraction | None:
    """A displayed pixel's width over its height. None if it is square or the video does not say."""
    ratio = stream.sample_aspect_ratio
    if not ratio or ratio == 1 or not 1 / MOST_ASPECT <= ratio <= MOST_ASPECT:
        return None
    return 1 / Fraction(ratio) if orientation.transposed else Fraction(ratio)


def side_data_names(frame: Any) -> set[str]:
    """The kinds of side data of an `av.VideoFrame`, by FFmpeg's names, such as "STEREO3D" or "SPHERICAL"."""
    sides = frame.side_data  # a mapping whose iterator gives values
    return {sides[place].type.name for place in range(len(sides))}
