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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import MediaError
from .extras import require

__all__ = ["BT709", "LIMITED_RANGE", "from_video", "to_video"]

BT709 = 1  # in FFmpeg's numbering of matrices, primaries and transfer curves alike
LIMITED_RANGE = 1
FULL_RANGE = 2

_BT601 = 5
_UNSPECIFIED = 2
# From a frame's matrix tag (AVColorSpace) to a converter's matrix (SWS_CS_*).
_MATRICES = {1: BT709, 4: 4, 5: _BT601, 6: _BT601, 7: 7, 9: 9, 10: 9}
_FORMATS = {1: "gray", 3: "rgb24", 4: "rgba"}
_HD_LINES = 720
# SWS_BICUBIC | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP | SWS_ACCURATE_RND: interpolated chroma and exact rounding.
_QUALITY = 0x4 | 0x2000 | 0x4000 | 0x40000


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
    graph = require("av.filter", extra="media").Graph()
    source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=time_base)
    scale = graph.add(
        "scale",
        "flags=bicubic+full_chroma_int+full_chroma_inp+accurate_rnd:in_range=pc:out_range=tv:"
        "out_color_matrix=bt709:out_h_chr_pos=0:out_v_chr_pos=128",
    )
    wanted, sink = graph.add("format", "pix_fmts=yuv420p"), graph.add("buffersink")
    source.link_to(scale)
    scale.link_to(wanted)
    wanted.link_to(sink)
    graph.configure()
    return graph


def from_video(frame: Any, channels: int, converter: Any) -> NDArray[np.uint8]:
    """Convert a decoded frame to pixels, uint8 (H, W, C) with C = 1 (luma), 3 (RGB) or 4 (RGBA), not yet rotated.

    Args:
        frame: a `av.VideoFrame` in any pixel format.
        channels: 1, 3 or 4; a format without alpha gives an opaque one.
        converter: a `av.video.reformatter.VideoReformatter`, one for each clip.

    Raises:
        MediaError: the frame's matrix is one that is not supported.
    """
    matrix, full = _matrix(frame), _is_full_range(frame)
    converted = converter.reformat(
        frame,
        format=_FORMATS[channels],
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=FULL_RANGE if full else LIMITED_RANGE,
        dst_color_range=FULL_RANGE,
        interpolation=_QUALITY,
    )
    pixels: NDArray[np.uint8] = converted.to_ndarray()
    return pixels[..., np.newaxis] if channels == 1 else pixels


def _matrix(frame: Any) -> int:
    tag = int(frame.colorspace)
    if tag in _MATRICES:
        return _MATRICES[tag]
    if frame.format.is_rgb or "pal8" in frame.format.name:
        return BT709  # it has no matrix; this one only weighs a gray version
    if tag in (0, _UNSPECIFIED, 3):
        return BT709 if frame.height >= _HD_LINES else _BT601
    raise MediaError(f"its colour matrix (number {tag}) is not supported: convert it to BT.709 first")


def _is_full_range(frame: Any) -> bool:
    name = frame.format.name
    if frame.format.is_rgb or name == "pal8" or name.startswith("yuvj"):
        return True
    tag = int(frame.color_range)
    return tag == FULL_RANGE or (tag != LIMITED_RANGE and name.startswith("gray"))
