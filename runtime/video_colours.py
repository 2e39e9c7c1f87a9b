"""The colours of video: RGB pixels and YUV frames, with the matrix and range that the tags name.

A wrong matrix or range is the usual fault of video tools, and a quiet one: everything plays, a little too
green or too pale. So nothing is left to defaults here. What is written is BT.709, limited range, and tagged
so. What is read follows the frame's tags; without tags BT.709 from 720 lines up and BT.601 below, limited
range, as players do.

The conversion alone is within 2 levels wherever the colour is constant around a pixel; at edges 4:2:0 shares chroma.
Transfer curves and primaries are tags only: samples keep their code values, and HDR is not
tone-mapped.
"""

from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import MediaError
from .extras import require

__all__ = ["BT709", "LIMITED_RANGE", "FromVideo", "to_video"]

BT709 = 1  # in FFmpeg's numbering of matrices, primaries and transfer curves alike
LIMITED_RANGE = 1
FULL_RANGE = 2

_UNSPECIFIED = 2
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_FORMATS = {1: "gray", 3: "rgb24", 4: "rgba"}
_HD_LINES = 720
_QUALITY = "flags=bicubic+full_chroma_int+full_chroma_inp+accurate_rnd"  # interpolated chroma, exact rounding


def to_video(height: int, width: int, time_base: Fraction) -> Any:
    """Make the filter graph from RGB frames ("rgb24") to frames in yuv420p, BT.709 limited range.

    `push` a frame, then `pull` one; none is held back. Chroma sits on the left columns, as H.264 has it when nothing
    else is said and as players assume; FFmpeg's plain conversion would put it in the middle, a quarter of a chroma
    pixel off.

    Args:
        height: in pixels.
        width: in pixels.
        time_base: the unit of the frames' timestamps, in seconds.
    """
    scale = f"{_QUALITY}:in_range=pc:out_range=tv:out_color_matrix=bt709:out_h_chr_pos=0:out_v_chr_pos=128"
    return _scale_graph((height, width, "rgb24"), time_base, scale, "yuv420p")


class FromVideo:
    """Converts the decoded frames of one clip to pixels; it keeps the filter graph that fits the last frame."""

    def __init__(self, channels: int) -> None:
        """`channels`: 1 for BT.601 luma, as pictures have it, 3 for RGB, 4 for RGBA (opaque without alpha)."""
        self._format = _FORMATS[channels]
        self._fits: tuple[int, int, str, str, bool] | None = None
        self._graph: Any = None

    def convert(self, frame: Any) -> NDArray[np.uint8]:
        """Convert a `av.VideoFrame` in any pixel format to a fresh uint8 (H, W, C), not rotated.

        Raises:
            MediaError: the frame's matrix is one that is not supported.
        """
        matrix, full = _matrix(frame), _is_full_range(frame)
        fits = (frame.height, frame.width, frame.format.name, matrix, full)
        if fits != self._fits:
            scale = f"{_QUALITY}:in_color_matrix={matrix}:in_range={'pc' if full else 'tv'}:out_range=pc"
            if self._format == "gray":
                scale += ":out_color_matrix=bt601"
            self._graph = _scale_graph(fits[:3], frame.time_base or Fraction(1), scale, self._format)
            self._fits = fits
        self._graph.push(frame)
        pixels: NDArray[np.uint8] = self._graph.pull().to_ndarray()
        return pixels[..., np.newaxis] if self._format == "gray" else pixels


def _scale_graph(source: tuple[int, int, str], time_base: Fraction, scale: str, wanted: str) -> Any:
    """One scale filter between frames of `source` (height, width, pixel format) and frames in the format `wanted`.

    A filter and not PyAV's own conversion: that one ignored the ranges until 17 when they were equal.
    """
    graph = require("av.filter", extra="media").Graph()
    height, width, source_format = source
    filters = [
        graph.add_buffer(width=width, height=height, format=source_format, time_base=time_base),
        graph.add("scale", scale),
        graph.add("format", f"pix_fmts={wanted}"),
        graph.add("buffersink"),
    ]
    for one, following in pairwise(filters):
        one.link_to(following)
    graph.configure()
    return graph


def _matrix(frame: Any) -> str:
    tag = int(frame.colorspace)
    if tag in _MATRICES:
        return _MATRICES[tag]
    if frame.format.is_rgb or "pal8" in frame.format.name:
        return "bt709"  # it has no matrix
    if tag in (0, _UNSPECIFIED, 3):
        return "bt709" if frame.height >= _HD_LINES else "bt601"
    raise MediaError(f"its colour matrix (number {tag}) is not supported: convert it to BT.709 first")


def _is_full_range(frame: Any) -> bool:
    name = frame.format.name
    if frame.format.is_rgb or name == "pal8" or name.startswith("yuvj"):
        return True
    tag = int(frame.color_range)
    return tag == FULL_RANGE or (tag != LIMITED_RANGE and name.startswith("gray"))
