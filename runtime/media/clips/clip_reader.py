"""Reading clips frame by frame: video files, animated pictures, folders of pictures and `.npy` arrays."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ....tiling.public_place import shown_in
from ...arrays.pixels import to_pixels
from ...arrays.size_text import size_text
from ...errors import InputError, MediaError
from ...system.npy_file import load_npy
from ..alpha import WHITE, Background, background_colour
from ..media_kind import media_kind
from ..pictures.opened_picture import opened_picture
from ..pictures.picture_file import list_pictures, read_picture
from .animated_picture import AnimatedPicture, is_animation
from .frame_colours import check_matrix
from .video_reader import VideoReader

__all__ = ["CLIP_ENDINGS", "ClipReader", "open_clip"]

CLIP_ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".gif")
"""The endings of clips that are written."""


@shown_in("latentrt.runtime")
class ClipReader:
    """An open clip: a context manager and an iterator of frames, uint8 (H, W, C) in [0, 255].

    A clip can be iterated once. One frame is in memory at a time, plus the few frames of a video decoder. Each frame is
    a new array. The caller owns it, also after the clip is closed.

    Attributes:
        frame_rate: frames per second. None if the source has no frame rate.
        frame_count: the exact number of frames. None if it is not known before the clip is read.
        height: in pixels, the same for all frames.
        width: in pixels, the same for all frames.
        sample_aspect_ratio: a pixel's width over its height. None if pixels are square or the source does not say.
    """

    def __init__(
        self,
        frames: Iterator[NDArray[np.uint8]],
        *,
        size: tuple[int, int],
        frame_rate: Fraction | None = None,
        frame_count: int | None = None,
        sample_aspect_ratio: Fraction | None = None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._frames, self._close = frames, close
        self.height, self.width = size
        self.frame_rate = frame_rate
        self.frame_count = frame_count
        self.sample_aspect_ratio = sample_aspect_ratio

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return self

    def __next__(self) -> NDArray[np.uint8]:
        return next(self._frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the source and end the iteration. Closing again does nothing."""
        self._frames = iter(())
        self._close()


@shown_in("latentrt.runtime")
def open_clip(
    path: Path | str,
    channels: int = 3,
    *,
    background: Background = WHITE,
    matrix: str | None = None,
    max_pixels: int | None = None,
) -> ClipReader:
    """Open a clip and decode its first frame, so that a file that is no clip fails at once.

    The source is one of these, by its bytes and not by its ending:

    - A video file of one of `CONTAINER_FORMATS` (MP4, MKV, WebM, AVI, MPEG-TS, GIF, ...). Colours follow its tags (see
      `frame_colours.py`). Rotation and mirroring are applied, interlaced frames are deinterlaced, and frames of
      different durations are converted to a constant rate.
    - A folder of pictures of the same size, in natural order, or a single picture.
    - An animated WebP, PNG or AVIF picture, converted to a constant rate.
    - A `.npy` array, which is memory-mapped: uint8 (T, H, W, C) or (H, W, C), or float32 (C, T, H, W) in [-1, 1]. C
      must be `channels`.

    Args:
        path: the file or folder.
        channels: 3 for RGB, 4 for RGBA (opaque if the source has no alpha), 1 for BT.601 luma.
        background: the colour behind transparent pixels, unless `channels` is 4.
        matrix: "bt709" or "bt601", for a video that names no YUV matrix or the wrong one.
        max_pixels: the most pixels of a picture (see `read_picture`).

    Raises:
        InputError: `channels` or `matrix` is none of these, or `background` is no colour.
        MediaError: the source is missing, empty, cut off or damaged, or is no clip. While iterating: a frame is damaged
            or has another size than the first frame.
        MissingExtra: PyAV or Pillow is needed and not installed.
    """
    if channels not in (1, 3, 4):
        raise InputError(f"a clip can be read with 1, 3 or 4 channels, got {channels}: choose one of these")
    check_matrix(matrix)
    path, behind = Path(path), background_colour(background)
    if path.is_dir():
        return _open_pictures(path, list_pictures(path), channels, behind, max_pixels)
    if not path.is_file():
        raise MediaError(f"{path} does not exist: give a video, a folder of pictures or a .npy file")
    kind = media_kind(path)
    if kind == "array":
        return _open_array(path, channels)
    if kind == "picture":
        with opened_picture(path, max_pixels) as image:
            animated = is_animation(image)
        if animated:
            return _open_animation(path, channels, behind)
        return _open_pictures(path, [path], channels, behind, max_pixels)
    video = VideoReader(path, channels, background=behind, matrix=matrix)
    return ClipReader(
        video,
        size=(video.height, video.width),
        frame_rate=video.frame_rate,
        frame_count=video.frame_count,
        sample_aspect_ratio=video.sample_aspect_ratio,
        close=video.close,
    )


def _open_animation(path: Path, channels: int, background: tuple[int, int, int]) -> ClipReader:
    animation = AnimatedPicture(path, channels, background)
    return ClipReader(
        animation,
        size=(animation.height, animation.width),
        frame_rate=animation.frame_rate,
        frame_count=animation.frame_count,
        close=animation.close,
    )


def _open_pictures(
    path: Path, pictures: list[Path], channels: int, background: tuple[int, int, int], max_pixels: int | None
) -> ClipReader:
    if not pictures:
        raise MediaError(f"{path} has no pictures in it: give a folder with .png, .jpg, .webp, ... files")
    first = read_picture(pictures[0], channels, background=background, max_pixels=max_pixels)
    height, width = first.shape[:2]

    def frames() -> Iterator[NDArray[np.uint8]]:
        nonlocal first
        yield first
        del first  # otherwise the closure would hold it as long as the clip is open
        for picture in pictures[1:]:
            pixels = read_picture(picture, channels, background=background, max_pixels=max_pixels)
            if pixels.shape[:2] != (height, width):
                raise MediaError(
                    f"{picture} is {size_text(pixels.shape[:2])} and {pictures[0].name} is "
                    f"{size_text((height, width))} (height x width): "
                    "the pictures of a clip must have one size"
                )
            yield pixels

    return ClipReader(frames(), size=(height, width), frame_count=len(pictures))


def _open_array(path: Path, channels: int) -> ClipReader:
    array = load_npy(path, mmap_mode="r")
    match (str(array.dtype), array.ndim):
        case ("uint8", 3):
            clip, axis = array[np.newaxis], 3
        case ("uint8", 4):
            clip, axis = array, 3
        case ("float32", 4):
            clip, axis = array.swapaxes(0, 1), 1  # (T, C, H, W), so that the first axis is time, as in the other cases
        case _:
            raise MediaError(
                f"{path} holds {array.dtype} {array.shape}: a clip is uint8 (T, H, W, C) or (H, W, C), "
                "or float32 (C, T, H, W)"
            )
    if clip.size == 0 or clip.shape[axis] != channels:
        raise MediaError(
            f"{path} holds {array.dtype} {array.shape}: a clip needs at least one frame and {channels} channels here"
        )
    height, width = clip.shape[1:3] if axis == 3 else clip.shape[2:4]
    frames = (np.array(frame) if axis == 3 else to_pixels(frame[np.newaxis])[0] for frame in clip)
    return ClipReader(frames, size=(height, width), frame_count=len(clip))
