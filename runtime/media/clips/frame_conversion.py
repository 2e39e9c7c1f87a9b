"""Conversion of video frames to pixels and of pixels to video frames.

Reading follows `FrameColours`. HDR and wide gamut become BT.709, as `colours/spaces.py` describes. Frames are written
as BT.709 in limited range, and tagged so.

The conversion is exact to 2 levels where the colour is constant around a pixel. At edges, 4:2:0 shares chroma between
pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...extras import require
from ..alpha import composite
from ..colours.spaces import ColourSpace
from .frame_colours import FrameColours

__all__ = ["FrameConverter", "encoder_graph"]

_WEIGHTS = {  # of red and blue in luma
    "bt709": (0.2126, 0.0722),
    "fcc": (0.30, 0.11),
    "bt601": (0.299, 0.114),
    "smpte240m": (0.212, 0.087),
    "bt2020": (0.2627, 0.0593),
}
_BAND_PIXELS = 1 << 18  # converted at a time, with a few temporary arrays of 3 MiB
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # the weights of BT.601, as for pictures
_QUALITY = "flags=bicubic+full_chroma_int+full_chroma_inp+accurate_rnd"  # interpolated chroma, exact rounding


def encoder_graph(height: int, width: int, time_base: Fraction) -> Any:
    """Make the filter graph that converts RGB frames ("rgb24") for a video encoder: yuv420p, BT.709 in limited range.

    Push a frame and then pull its result. Chroma is sited on the left columns, which is H.264's default and what
    players assume. FFmpeg's plain conversion would site it in the middle, off by a quarter of a chroma pixel.

    Args:
        height: in pixels.
        width: in pixels.
        time_base: the unit of the frames' timestamps, in seconds.
    """
    scale = f"{_QUALITY}:in_range=pc:out_range=tv:out_color_matrix=bt709:out_h_chr_pos=0:out_v_chr_pos=128"
    return _scale_graph((height, width, "rgb24"), time_base, scale, "yuv420p")


class FrameConverter:
    """Converts the decoded frames of one clip to pixels. It keeps the filter graph as long as frames are alike."""

    def __init__(
        self,
        channels: int,
        *,
        background: tuple[int, int, int] = (255, 255, 255),
        note: Callable[[str, str], None] = lambda kind, sentence: None,
    ) -> None:
        """Prepare for frames of any kind.

        Args:
            channels: 3 for RGB, 4 for RGBA (opaque if the frames have no alpha), 1 for BT.601 luma.
            background: red, green and blue in [0, 255]. Transparent frames are blended over it, unless `channels` is 4.
            note: called with the kind of fact and a sentence, as `media.notes.note` takes them.
        """
        self._channels, self._background, self._note = channels, background, note
        self._configured_for: tuple[int, int, str, FrameColours] | None = None
        self._graph: Any = None

    def convert(self, frame: Any, colours: FrameColours | None = None) -> NDArray[np.uint8]:
        """Convert an `av.VideoFrame` in any pixel format to pixels.

        Args:
            frame: the frame, or its deinterlaced picture.
            colours: the meaning of its code values. None reads the frame's tags.

        Returns:
            A new uint8 array (H, W, C), not rotated.

        Raises:
            MediaError: the frame's matrix is not supported.
        """
        colours = colours or FrameColours.of(frame)
        wanted = (frame.height, frame.width, frame.format.name, colours)
        if wanted != self._configured_for:
            self._configure(frame, colours)
            self._configured_for = wanted
        self._graph.push(frame)
        pixels: NDArray[Any] = self._graph.pull().to_ndarray()
        if pixels.dtype == np.uint16:
            pixels = self._from_16_bits(pixels)
        if pixels.ndim == 2:
            return np.ascontiguousarray(pixels[..., np.newaxis])
        if self._channels == 4 and pixels.shape[2] == 3:
            return np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
        if self._channels != 4 and pixels.shape[2] == 4:
            pixels = self._without_alpha(pixels)
        if self._channels == 1:
            pixels = np.rint(pixels @ _LUMA).astype(np.uint8)[..., np.newaxis]
        return np.ascontiguousarray(pixels)

    def _without_alpha(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if pixels[..., 3].min() == 255:  # the frames of a GIF always have alpha, and almost all are opaque
            return pixels[..., :3]
        red, green, blue = self._background
        self._note("transparency", f"has transparent pixels: they are blended over the colour {red},{green},{blue}")
        return composite(pixels, self._background)

    def _configure(self, frame: Any, colours: FrameColours) -> None:
        """Choose the conversion for frames like this frame.

        FFmpeg converts to 8 bits if its rounding is exact. Otherwise it converts to 16 bits, and `_from_16_bits` does
        the rest.
        """
        name = frame.format.name
        bits = min(16, max((component.bits for component in frame.format.components), default=8))
        has_alpha = name == "pal8" or any(component.is_alpha for component in frame.format.components)
        self._space = self._space_to_convert(colours.space)
        from_yuv = self._space is not None and colours.is_yuv and not name.startswith("gray")
        deep = self._space is not None or (bits > 8 and (colours.full or has_alpha))
        scale = f"{_QUALITY}:in_color_matrix={colours.matrix}:in_range={'pc' if colours.full else 'tv'}"
        if from_yuv:  # only interpolate chroma
            wanted = "yuva444p16le" if has_alpha else "yuv444p16le"
            scale += f":out_color_matrix={colours.matrix}:out_range={'pc' if colours.full else 'tv'}"
        else:
            wanted = ("rgba64le" if has_alpha else "rgb48le") if deep else "rgba" if has_alpha else "rgb24"
            scale += ":out_range=pc"
        if self._channels == 1 and wanted == "rgb24":
            wanted, scale = "gray", f"{scale}:out_color_matrix=bt601"
        self._graph = _scale_graph((frame.height, frame.width, name), frame.time_base or Fraction(1), scale, wanted)
        # The code of white in FFmpeg's 16 bits. For YUV, FFmpeg shifts the bits, where it should scale them.
        shifted = ((1 << bits) - 1) << (16 - bits)
        self._opaque = 0xFFFF if frame.format.is_rgb and bits > 8 else shifted
        self._white = self._opaque if colours.full else 0xFF00
        self._yuv = _YuvCodes(colours.matrix, colours.full, shifted) if from_yuv else None

    def _space_to_convert(self, space: ColourSpace) -> ColourSpace | None:
        if space.is_plain:
            return None
        if not space.supported:
            numbers = f"primaries {space.primaries}, transfer curve {space.transfer}"
            self._note("colours", f"names colours of an unknown kind ({numbers}): they are read as BT.709")
            return None
        highlights = ", and light above 203 cd/m2 becomes white" if space.is_hdr else ""
        self._note("colours", f"is in {space}: its colours are converted to BT.709{highlights}")
        return space

    def _from_16_bits(self, pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Convert uint16 RGB or YUV (H, W, C) to uint8 RGB (H, W, C), in bands of rows to save memory."""
        height, width, channels = pixels.shape
        converted = np.empty(pixels.shape, np.uint8)
        rows = max(1, _BAND_PIXELS // width)
        for top in range(0, height, rows):
            band = pixels[top : top + rows]
            colour = band[..., :3].astype(np.float32)
            if self._yuv is not None:
                colour = self._yuv.to_rgb(colour)
            else:
                colour *= np.float32(65535 / self._white)
            if self._space is not None:
                converted[top : top + rows, :, :3] = self._space.to_bt709(colour)
            else:
                converted[top : top + rows, :, :3] = np.rint(np.clip(colour, 0, 65535) / np.float32(257))
            if channels == 4:
                alpha = np.minimum(band[..., 3], self._opaque) * np.float32(255 / self._opaque)
                converted[top : top + rows, :, 3] = np.rint(alpha)
        return converted


@dataclass(frozen=True)
class _YuvCodes:
    """The meaning of 16-bit YUV codes.

    Attributes:
        matrix: the YUV matrix.
        full: whether the range is full, rather than limited.
        white: the code of white in full range. In limited range the standard defines it.
    """

    matrix: str
    full: bool
    white: int

    def to_rgb(self, yuv: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert float32 YUV codes (..., 3) to float32 RGB codes (..., 3), with white at 65535 and not clipped."""
        red_weight, blue_weight = _WEIGHTS[self.matrix]
        black, luma, chroma = (0, self.white, self.white) if self.full else (16 << 8, 219 << 8, 224 << 8)
        y = (yuv[..., 0] - np.float32(black)) * np.float32(65535 / luma)
        blue, red = ((yuv[..., place] - np.float32(128 << 8)) * np.float32(65535 / chroma) for place in (1, 2))
        r, b = y + red * np.float32(2 * (1 - red_weight)), y + blue * np.float32(2 * (1 - blue_weight))
        g = (y - np.float32(red_weight) * r - np.float32(blue_weight) * b) / np.float32(1 - red_weight - blue_weight)
        return np.stack([r, g, b], axis=-1)


def _scale_graph(source: tuple[int, int, str], time_base: Fraction, scale: str, wanted: str) -> Any:
    """Make a filter graph that scales frames.

    A filter is used because PyAV's conversion ignored equal ranges before PyAV 17.

    Args:
        source: the height, width and pixel format of the frames that are pushed.
        time_base: the unit of the frames' timestamps, in seconds.
        scale: the options of FFmpeg's filter "scale".
        wanted: the pixel format of the frames that are pulled.
    """
    graph = require("av.filter", extra="media").Graph()
    height, width, source_format = source
    filters = [
        graph.add_buffer(width=width, height=height, format=source_format, time_base=time_base),
        # Remove the tags: FFmpeg 8 refuses curves that it does not know, even if it does not convert them.
        graph.add("setparams", "color_primaries=unknown:color_trc=unknown"),
        graph.add("scale", scale),
        graph.add("format", f"pix_fmts={wanted}"),
        graph.add("buffersink"),
    ]
    for one, following in pairwise(filters):
        one.link_to(following)
    graph.configure()
    return graph
