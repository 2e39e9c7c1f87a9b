"""Reading a clip as one array, for clips that fit into memory."""

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ....tiling.public_place import shown_in
from ...errors import MediaError
from ..alpha import WHITE, Background
from .clip_reader import open_clip

__all__ = ["Clip", "read_clip"]


@shown_in("latentrt.runtime")
@dataclass(frozen=True, eq=False)
class Clip:
    """A clip in memory.

    Attributes:
        pixels: uint8 (T, H, W, C) in [0, 255], in sRGB. The caller owns the array.
        frame_rate: frames per second. None if the source has none.
        sample_aspect_ratio: a pixel's width over its height. None if pixels are square or the source does not say.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    frame_rate: Fraction | None = None
    sample_aspect_ratio: Fraction | None = None


@shown_in("latentrt.runtime")
def read_clip(
    path: Path | str,
    channels: int = 3,
    *,
    max_frames: int | None = None,
    background: Background = WHITE,
    matrix: str | None = None,
    max_pixels: int | None = None,
) -> Clip:
    """Read a clip: a video file, an animated picture, a folder of pictures, or a `.npy` array.

    `open_clip` reads the same sources frame by frame, in memory that does not grow with the length.

    Args:
        path: see `open_clip`.
        channels: see `open_clip`.
        max_frames: the most frames that are read. None reads all.
        background: see `open_clip`.
        matrix: see `open_clip`.
        max_pixels: see `open_clip`.

    Raises:
        InputError, MediaError, MissingExtra: see `open_clip`.
    """
    with open_clip(path, channels, background=background, matrix=matrix, max_pixels=max_pixels) as clip:
        frames = list(islice(clip, max_frames))
        if not frames:
            raise MediaError(f"{path} holds no frames: give another clip")
        return Clip(np.stack(frames), clip.frame_rate, clip.sample_aspect_ratio)
