"""Decoding AVIF pictures to 16 bits per sample with PyAV. Pillow decodes them to 8, which is too few for HDR."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...extras import require

__all__ = ["deep_avif"]

_ALLOWED = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2", "protocol_whitelist": "file"}
_MATRICES = {1: "bt709", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}  # ITU-T H.273, table 4
_FULL_RANGE = 2
_QUALITY = "flags=bicubic+full_chroma_int+full_chroma_inp+accurate_rnd"


def deep_avif(path: Path, height: int, width: int) -> NDArray[np.uint16] | None:
    """Decode an AVIF file with 16 bits per sample.

    Args:
        path: the file.
        height: the height of the stored picture, in pixels.
        width: the width of the stored picture, in pixels.

    Returns:
        A new uint16 array (H, W, 3), RGB in full range, not turned upright. None if FFmpeg does not decode the file as
        one picture of this size (some files are a grid of tiles).

    Raises:
        MissingExtra: PyAV is not installed.
    """
    av = require("av", extra="media")
    try:
        with av.open(str(path.absolute()), options=_ALLOWED) as container:
            frame = next(container.decode(video=0))
            if (frame.height, frame.width) != (height, width):
                return None
            return _in_rgb(frame)
    except (av.error.FFmpegError, OSError, ValueError, StopIteration):
        return None


def _in_rgb(frame: Any) -> NDArray[np.uint16]:
    if frame.format.is_rgb:
        scale = ""
    else:
        matrix = _MATRICES.get(int(frame.colorspace), "bt601")  # libavif's default for files without a matrix
        full = "pc" if int(frame.color_range) == _FULL_RANGE else "tv"
        scale = f"{_QUALITY}:in_color_matrix={matrix}:in_range={full}:out_range=pc"
    graph = require("av.filter", extra="media").Graph()
    filters = [
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format.name, time_base=Fraction(1)),
        graph.add("scale", scale),
        graph.add("format", "pix_fmts=rgb48le"),
        graph.add("buffersink"),
    ]
    for one, following in pairwise(filters):
        one.link_to(following)
    graph.configure()
    graph.push(frame)
    pixels: NDArray[np.uint16] = graph.pull().to_ndarray()
    return pixels
