"""The colours of video: RGB pixels and YUV frames, with the matrix and range that the tags name.

A wrong matrix or range is the usual fault of video tools, and a quiet one: everything plays, a little too green or too
pale. So nothing is left to defaults here. What is written is BT.709, limited range, and tagged so. What is read follows
the frame's tags: matrix, range, transfer curve and primaries; where the frame has none, the container's. HDR and wide
gamut become BT.709 as `colour_spaces` says. Without a matrix tag a clip that FFmpeg's libraries wrote is BT.601, which
is what they convert RGB with at any size (imageio, OpenCV, torchvision and diffusers write such clips). Any other
untagged clip is BT.709 from 720 lines up and BT.601 below, as players assume. Without a range tag YUV is limited.

The conversion alone is within 2 levels wherever the colour is constant around a pixel; at edges 4:2:0 shares chroma.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError
from ...extras import require
from ..alpha import composite
from ..colours.spaces import ColourSpace
from .video_geometry import side_data_names

__all__ = ["BT709", "LIMITED_RANGE", "MATRICES", "ContainerTags", "FrameColours", "FromVideo", "to_video"]

MATRICES = ("bt709", "bt601")
"""The matrices that a caller can name for a clip."""

BT709 = 1  # in FFmpeg's numbering of matrices, primaries and transfer curves alike
LIMITED_RANGE = 1
FULL_RANGE = 2

_UNSPECIFIED = 2
_NOT_NAMED = (_UNSPECIFIED, 3)  # 3 is reserved
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}
_WEIGHTS = {  # of red and blue in luma
    "bt709": (0.2126, 0.0722),
    "fcc": (0.30, 0.11),
    "bt601": (0.299, 0.114),
    "smpte240m": (0.212, 0.087),
    "bt2020": (0.2627, 0.0593),
}
_BAND_PIXELS = 1 << 18  # converted at a time: a few arrays of 3 MiB
_NAMES = {8: "YCgCo", 10: "BT.2020 with constant luminance", 12: "chroma-derived", 13: "chroma-derived", 14: "ICtCp"}
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601, as pictures have it
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


@dataclass(frozen=True)
class ContainerTags:
    """What a container says about a stream's colours, by the numbers of ITU-T H.273.

    A decoder overwrites these with what the stream itself says, also where that is "unspecified". So they are read
    before the first frame is decoded, and count where a frame has no tag of its own.
    """

    matrix: int = _UNSPECIFIED
    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED

    @classmethod
    def of(cls, context: Any) -> Self:
        """Read the codec context of an `av` stream from which nothing has been decoded yet."""
        return cls(int(context.colorspace), int(context.color_primaries), int(context.color_trc))


@dataclass(frozen=True)
class FrameColours:
    """What a frame's code values mean.

    Attributes:
        matrix: FFmpeg's name of the YUV matrix; without effect for RGB.
        full: whether the range is full, rather than limited.
        space: primaries and transfer curve.
        is_yuv: whether the frame is luma and chroma, or gray; else RGB, or a palette of it.
        assumed: whether the matrix is an assumption, and not one that the frame or the caller names.
    """

    matrix: str
    full: bool
    space: ColourSpace
    is_yuv: bool
    assumed: bool

    @classmethod
    def of(
        cls,
        frame: Any,
        *,
        matrix: str | None = None,
        by_ffmpeg: bool = False,
        context: Any = None,
        container: ContainerTags | None = None,
        first: bool = True,
    ) -> Self:
        """Read the tags of an `av.VideoFrame`.

        Args:
            frame: as the decoder gives it; a filter may lose its tags.
            matrix: one of `MATRICES`, to be used in place of the frame's tag.
            by_ffmpeg: whether FFmpeg's libraries wrote the file.
            context: the stream's codec context, for frames of PyAV 16, which have no primaries and no transfer curve.
            container: the tags that count where the frame has none.
            first: whether side data is looked at, which says for the whole clip that it is Dolby Vision. PyAV's side
                data and its frame refer to each other, so such a frame stays in memory until a garbage collection.

        Raises:
            MediaError: the frame's matrix is one that is not supported.
        """
        is_yuv = not (frame.format.is_rgb or "pal8" in frame.format.name or frame.format.name.startswith("xyz"))
        container = container or ContainerTags()
        tag = _or_else(int(frame.colorspace), container.matrix)
        tagged = _tagged_matrix(tag) if is_yuv and matrix is None else None
        assumed = "bt601" if by_ffmpeg or frame.height < _HD_LINES else "bt709"
        tagged_by = frame if hasattr(frame, "color_trc") else context
        space = ColourSpace(_UNSPECIFIED, _UNSPECIFIED)
        if tagged_by is not None and not frame.format.name.startswith("xyz"):  # FFmpeg makes XYZ sRGB itself
            space = ColourSpace(
                _or_else(int(tagged_by.color_primaries), container.primaries),
                _or_else(int(tagged_by.color_trc), container.transfer),
            )
        if first and is_yuv and space.transfer == _UNSPECIFIED and tagged is None:
            _refuse_dolby_vision(frame)
        return cls(
            matrix=matrix or tagged or (assumed if is_yuv else "bt709"),
            full=_is_full_range(frame),
            space=space,
            is_yuv=is_yuv,
            assumed=is_yuv and matrix is None and tagged is None and not frame.format.name.startswith("gray"),
        )


class FromVideo:
    """Converts the decoded frames of one clip to pixels; it keeps the filter graph that fits the last frame."""

    def __init__(
        self,
        channels: int,
        *,
        background: tuple[int, int, int] = (255, 255, 255),
        note: Callable[[str, str], None] = lambda kind, sentence: None,
    ) -> None:
        """Prepare for frames of any kind.

        Args:
            channels: 1 for BT.601 luma, as pictures have it, 3 for RGB, 4 for RGBA (opaque without alpha).
            background: what transparent frames are blended over, unless there are 4 channels.
            note: called with the kind of fact and a sentence when colours are converted.
        """
        self._channels, self._background, self._note = channels, background, note
        self._fits: tuple[int, int, str, FrameColours] | None = None
        self._graph: Any = None

    def convert(self, frame: Any, colours: FrameColours | None = None) -> NDArray[np.uint8]:
        """Convert a `av.VideoFrame` in any pixel format to a fresh uint8 (H, W, C), not rotated.

        Args:
            frame: the picture.
            colours: what its code values mean; None reads the frame's own tags.

        Raises:
            MediaError: the frame's matrix is one that is not supported.
        """
        colours = colours or FrameColours.of(frame)
        fits = (frame.height, frame.width, frame.format.name, colours)
        if fits != self._fits:
            self._configure(frame, colours)
            self._fits = fits
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
        if pixels[..., 3].min() == 255:  # as almost every GIF, whose frames all have alpha
            return pixels[..., :3]
        red, green, blue = self._background
        self._note("transparency", f"has transparent pixels: they are shown over the colour {red},{green},{blue}")
        return composite(pixels, self._background)

    def _configure(self, frame: Any, colours: FrameColours) -> None:
        """Choose the way for frames like this one: FFmpeg's 8 bits where its rounding is exact, else 16 and our own."""
        name = frame.format.name
        bits = min(16, max((component.bits for component in frame.format.components), default=8))
        has_alpha = name == "pal8" or any(component.is_alpha for component in frame.format.components)
        self._space = self._space_to_convert(colours.space)
        from_yuv = self._space is not None and colours.is_yuv and not name.startswith("gray")
        deep = self._space is not None or (bits > 8 and (colours.full or has_alpha))
        scale = f"{_QUALITY}:in_color_matrix={colours.matrix}:in_range={'pc' if colours.full else 'tv'}"
        if from_yuv:  # chroma is interpolated, and nothing else changes
            wanted = "yuva444p16le" if has_alpha else "yuv444p16le"
            scale += f":out_color_matrix={colours.matrix}:out_range={'pc' if colours.full else 'tv'}"
        else:
            wanted = ("rgba64le" if has_alpha else "rgb48le") if deep else "rgba" if has_alpha else "rgb24"
            scale += ":out_range=pc"
        if self._channels == 1 and wanted == "rgb24":
            wanted, scale = "gray", f"{scale}:out_color_matrix=bt601"
        self._graph = _scale_graph((frame.height, frame.width, name), frame.time_base or Fraction(1), scale, wanted)
        # White in FFmpeg's 16 bits: it shifts YUV, where it should scale.
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
        """Convert uint16 RGB or YUV (H, W, C) to uint8 RGB (H, W, C), in bands of rows, to hold little."""
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
    """What 16-bit YUV stands for. `white`: the code of white in full range; limited range has that of its standard."""

    matrix: str
    full: bool
    white: int

    def to_rgb(self, yuv: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert float32 codes (..., 3) to RGB code values scaled to [0, 65535], not clipped."""
        red_weight, blue_weight = _WEIGHTS[self.matrix]
        black, luma, chroma = (0, self.white, self.white) if self.full else (16 << 8, 219 << 8, 224 << 8)
        y = (yuv[..., 0] - np.float32(black)) * np.float32(65535 / luma)
        blue, red = ((yuv[..., place] - np.float32(128 << 8)) * np.float32(65535 / chroma) for place in (1, 2))
        r, b = y + red * np.float32(2 * (1 - red_weight)), y + blue * np.float32(2 * (1 - blue_weight))
        g = (y - np.float32(red_weight) * r - np.float32(blue_weight) * b) / np.float32(1 - red_weight - blue_weight)
        return np.stack([r, g, b], axis=-1)


def _scale_graph(source: tuple[int, int, str], time_base: Fraction, scale: str, wanted: str) -> Any:
    """One scale filter between frames of `source` (height, width, pixel format) and frames in the format `wanted`.

    A filter and not PyAV's own conversion: that one ignored the ranges until 17 when they were equal.
    """
    graph = require("av.filter", extra="media").Graph()
    height, width, source_format = source
    filters = [
        graph.add_buffer(width=width, height=height, format=source_format, time_base=time_base),
        # Without tags: FFmpeg 8 refuses curves that it does not know, though it is asked for no conversion of curves.
        graph.add("setparams", "color_primaries=unknown:color_trc=unknown"),
        graph.add("scale", scale),
        graph.add("format", f"pix_fmts={wanted}"),
        graph.add("buffersink"),
    ]
    for one, following in pairwise(filters):
        one.link_to(following)
    graph.configure()
    return graph


def _or_else(tag: int, other: int) -> int:
    return other if tag in _NOT_NAMED else tag


def _tagged_matrix(tag: int) -> str | None:
    if tag in _MATRICES:
        return _MATRICES[tag]
    if tag in (0, *_NOT_NAMED):
        return None
    name = _NAMES.get(tag, "not a known one")
    raise MediaError(f"its colour matrix (number {tag}, {name}) is not supported: convert it to BT.709 first")


def _refuse_dolby_vision(frame: Any) -> None:
    if any(name.startswith("DOVI") for name in side_data_names(frame)):
        raise MediaError("it is Dolby Vision without a common base layer (profile 5): convert it to BT.709 first")


def _is_full_range(frame: Any) -> bool:
    name = frame.format.name
    if frame.format.is_rgb or name == "pal8" or name.startswith("yuvj"):
        return True
    tag = int(frame.color_range)
    return tag == FULL_RANGE or (tag != LIMITED_RANGE and name.startswith("gray"))
