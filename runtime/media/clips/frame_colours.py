"""The meaning of a video frame's code values, by the tags of the frame, the container and the caller.

A wrong matrix or range is the most common fault of video tools, and it is easily overlooked: the clip plays, but its
colours are slightly wrong. So nothing here depends on the defaults of a library:

- A frame's matrix, range, transfer curve and primaries come from its tags. If the frame has no tag, the container's
  tag counts.
- Without a matrix tag, a clip that FFmpeg's libraries wrote is BT.601. They convert RGB with that matrix at any size
  (imageio, OpenCV, torchvision and diffusers write such clips).
- Any other clip without a matrix tag is BT.709 if it has at least 720 lines, and BT.601 otherwise, as players assume.
- Without a range tag, YUV has the limited range.
"""

from dataclasses import dataclass
from typing import Any, Self

from ...errors import InputError, MediaError
from ..colours.spaces import ColourSpace
from .video_geometry import side_data_names

__all__ = ["BT709", "FULL_RANGE", "LIMITED_RANGE", "MATRICES", "ContainerTags", "FrameColours", "check_matrix"]

MATRICES = ("bt709", "bt601")
"""The matrices that a caller can name for a clip."""

BT709 = 1
"""FFmpeg's number of BT.709, for matrices, primaries and transfer curves."""

LIMITED_RANGE = 1
"""FFmpeg's number of the limited range of code values."""

FULL_RANGE = 2
"""FFmpeg's number of the full range of code values."""

_UNSPECIFIED = 2
_NOT_NAMED = (_UNSPECIFIED, 3)  # 3 is reserved
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}  # by ITU-T H.273, table 4
_UNSUPPORTED = {
    8: "YCgCo",
    10: "BT.2020 with constant luminance",
    12: "chroma-derived",
    13: "chroma-derived",
    14: "ICtCp",
}
_HD_LINES = 720  # from this height up, players assume BT.709


def check_matrix(matrix: str | None) -> None:
    """Check the matrix that a caller names for a clip.

    Raises:
        InputError: it is neither None nor one of `MATRICES`.
    """
    if matrix is not None and matrix not in MATRICES:
        raise InputError(
            f"matrix must be one of {', '.join(MATRICES)}, got {matrix!r}: leave it out to follow the clip"
        )


@dataclass(frozen=True)
class ContainerTags:
    """The colour tags that a container has for a stream, by the numbers of ITU-T H.273.

    A decoder overwrites them with the tags of the stream, even if these are "unspecified". So they are read before the
    first frame is decoded. They count if a frame has no tag.

    Attributes:
        matrix: the number of the YUV matrix.
        primaries: the number of the primaries.
        transfer: the number of the transfer curve.
    """

    matrix: int = _UNSPECIFIED
    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED

    @classmethod
    def of(cls, context: Any) -> Self:
        """Read the tags from the codec context of an `av` stream, before any frame is decoded."""
        return cls(int(context.colorspace), int(context.color_primaries), int(context.color_trc))


@dataclass(frozen=True)
class FrameColours:
    """The meaning of a frame's code values.

    Attributes:
        matrix: FFmpeg's name of the YUV matrix. It has no effect for RGB.
        full: whether the range is full, rather than limited.
        space: the primaries and the transfer curve.
        is_yuv: whether the frame is YUV or gray. Otherwise it is RGB or has a palette.
        assumed: whether the matrix is assumed, because neither the frame nor the caller names it.
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
            frame: the decoder's frame. A filter may lose its tags.
            matrix: one of `MATRICES`, to use instead of the frame's tag.
            by_ffmpeg: whether FFmpeg's libraries wrote the file.
            context: the stream's codec context. PyAV 16 has primaries and transfer curve only there.
            container: the tags that count if the frame has none.
            first: whether to look for Dolby Vision in the frame's side data. Do this for the first frame only: PyAV's
                side data and its frame refer to each other, so the frame stays in memory until a garbage collection.

        Raises:
            MediaError: the frame's matrix is not supported, or the clip is Dolby Vision without a common base layer.
        """
        is_yuv = not (frame.format.is_rgb or "pal8" in frame.format.name or frame.format.name.startswith("xyz"))
        container = container or ContainerTags()
        tag = _tag_or(int(frame.colorspace), container.matrix)
        tagged = _tagged_matrix(tag) if is_yuv and matrix is None else None
        assumed = "bt601" if by_ffmpeg or frame.height < _HD_LINES else "bt709"
        tagged_by = frame if hasattr(frame, "color_trc") else context
        space = ColourSpace(_UNSPECIFIED, _UNSPECIFIED)
        if tagged_by is not None and not frame.format.name.startswith("xyz"):  # FFmpeg converts XYZ to sRGB
            space = ColourSpace(
                _tag_or(int(tagged_by.color_primaries), container.primaries),
                _tag_or(int(tagged_by.color_trc), container.transfer),
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


def _tag_or(tag: int, other: int) -> int:
    return other if tag in _NOT_NAMED else tag


def _tagged_matrix(tag: int) -> str | None:
    if tag in _MATRICES:
        return _MATRICES[tag]
    if tag in (0, *_NOT_NAMED):
        return None
    name = _UNSUPPORTED.get(tag, "unknown")
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
