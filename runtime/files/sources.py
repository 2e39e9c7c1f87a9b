"""Reading pictures, clips and arrays as samples of a model, padded to its grid."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..arrays.boundary import require_finite
from ..arrays.pixel_range import check_pixel_range
from ..arrays.pixels import to_samples
from ..autoencoders.autoencoder import Autoencoder
from ..errors import InputError, MediaError
from ..media.alpha import WHITE, Background
from ..media.clips.clip_reader import ClipReader, open_clip
from ..media.media_kind import media_kind
from ..media.pictures.downscaling import downscaled, fitted_size
from ..media.pictures.picture_file import read_picture
from ..system.file_kinds import kind_of
from ..system.npy_file import load_npy
from .folder_contents import FolderContents

__all__ = ["SampleSource", "folder_contents", "is_array", "list_inputs", "read_sample"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SampleSource:
    """A sample that was read from disk.

    Attributes:
        sample: float32 (B, C, H, W) or (B, C, T, H, W) in [-1, 1], padded to the model's grid at the end of each axis.
        size: the size (H, W) or (T, H, W) before padding.
        frame_rate: frames per second of a clip. None if the source has none.
        sample_aspect_ratio: a pixel's width over its height. None for square pixels.
        full_size: the height and width of the source if it was scaled down, else None.
    """

    sample: NDArray[np.float32]
    size: tuple[int, ...]
    frame_rate: Fraction | None = None
    sample_aspect_ratio: Fraction | None = None
    full_size: tuple[int, int] | None = None


def list_inputs(path: Path, vae: Autoencoder) -> list[Path] | None:
    """The inputs in a folder: its pictures for image models, or its clips for video models.

    None if `path` is a single input: a file, or for video models a folder of pictures, which is one clip. One line of
    the log counts the entries that are left out.

    Raises:
        MediaError: the folder holds nothing to encode, or pictures and clips.
    """
    if not path.is_dir():
        return None
    contents = folder_contents(path, vae)
    if (sentence := contents.sentence()) is not None:
        _log.warning("%s", sentence)
    return list(contents.clips if vae.video else contents.pictures) or None


def folder_contents(path: Path, vae: Autoencoder) -> FolderContents:
    """The contents of a folder: its pictures for image models, or its clips or its frames for video models.

    Raises:
        MediaError: the folder holds nothing to encode, or pictures and clips.
    """
    contents = FolderContents.of(path, video=vae.video)
    if contents.clips and contents.pictures:
        raise MediaError(f"{path} holds pictures and clips: put the frames of a clip and clips into separate folders")
    if not contents.clips and not contents.pictures:
        wanted = "neither clips (.mp4, .webm, .gif, ...) nor pictures" if vae.video else "no pictures"
        sentence = contents.sentence()
        found = f" ({sentence})" if sentence else ""
        raise MediaError(f"{path} holds {wanted} (.png, .jpg, .webp, ...){found}: give another folder")
    return contents


def is_array(path: Path) -> bool:
    """Whether a file is a `.npy` array."""
    return media_kind(path) == "array"


def read_sample(
    path: Path,
    vae: Autoencoder,
    *,
    max_frames: int | None = None,
    largest_side: int | None = None,
    check: Callable[[], None] | None = None,
    background: Background = WHITE,
    matrix: str | None = None,
    max_pixels: int | None = None,
    check_range: bool | None = None,
) -> SampleSource:
    """Read a picture, a clip or a `.npy` array as a sample of the model.

    Args:
        path: the file, or a folder of pictures. A `.npy` array has uint8 pixels (H, W, C) or (T, H, W, C), or a float32
            sample (C, ...) or (B, C, ...) in [-1, 1]. For a video model, a picture is a clip of one frame.
        vae: the model.
        max_frames: the most frames of a clip that are read.
        largest_side: the largest height or width, in pixels. Larger pictures and clips are scaled down.
        check: called before each frame. It may raise to stop.
        background: the colour behind transparent pixels, if the model takes no alpha.
        matrix: the YUV matrix of a video (see `open_clip`).
        max_pixels: the most pixels of a picture (see `read_picture`).
        check_range: whether a float array in 0..255 or 0..1 is refused (see `Autoencoder.encode`). None refuses it too,
            for callers whose user has no such option.

    Raises:
        MediaError: the file is missing or damaged, or the model does not take it.
        InputError: an array has the wrong shape or range.
    """
    check = check or (lambda: None)
    check()
    array = load_npy(path, mmap_mode="r") if is_array(path) else None
    if array is not None and array.dtype == np.float32:
        return _from_samples(array, vae, path, max_frames, largest_side, check_range)
    if array is not None and array.dtype != np.uint8:
        raise MediaError(f"{path} holds {array.dtype}: give uint8 pixels, or float32 in [-1, 1]")
    if vae.video:
        clip = partial(open_clip, background=background, matrix=matrix, max_pixels=max_pixels)
        return _read_clip(path, vae, max_frames, largest_side, check, clip)
    if array is not None:
        pixels = array
        if pixels.ndim != 3 or pixels.shape[2] != vae.config.in_channels or pixels.size == 0:
            raise MediaError(f"{path} has shape {pixels.shape}: wanted pixels (H, W, {vae.config.in_channels})")
    else:
        if media_kind(path) == "clip" and path.suffix.lower() != ".gif" and not _is_gif(path):
            raise MediaError(f"{path} is a clip and the bundle holds an image model ({vae.family}): give a picture")
        pixels = read_picture(path, vae.config.in_channels, background=background, max_pixels=max_pixels)
    builder = _SampleBuilder(vae, (1, *pixels.shape[:2]), largest_side)
    builder.add(pixels)
    return builder.finish(path, None)


def _read_clip(
    path: Path,
    vae: Autoencoder,
    max_frames: int | None,
    largest_side: int | None,
    check: Callable[[], None],
    opened: Callable[[Path, int], ClipReader],
) -> SampleSource:
    with opened(path, vae.config.in_channels) as clip:
        frames = iter(clip)
        count = clip.frame_count
        if count is None:  # read all frames to count them; pixels take a quarter of the sample's memory
            held = []
            for frame in clip:
                check()
                held.append(frame)
                if len(held) == max_frames:
                    break
            count = len(held)
            frames = (held.pop(0) for _ in range(count))  # frees each frame when it is converted
        builder = _SampleBuilder(vae, (min(count, max_frames or count), clip.height, clip.width), largest_side)
        for frame in frames:
            check()
            if not builder.add(frame):
                break
        return replace(builder.finish(path, clip.frame_rate), sample_aspect_ratio=clip.sample_aspect_ratio)


def _is_gif(path: Path) -> bool:
    kind = kind_of(path)
    return kind is not None and kind.name == "gif"


class _SampleBuilder:
    """Fills a sample of the padded size frame by frame, and then repeats its edges.

    So there is only one copy of the clip in memory. Frames are scaled down as they come.
    """

    def __init__(self, vae: Autoencoder, size: tuple[int, int, int], largest_side: int | None) -> None:
        self.video = vae.video
        self.largest_side = largest_side or max(size[1:])
        self.full_size = size[1:]
        self.size = size = (size[0], *fitted_size(*size[1:], self.largest_side))
        padded = vae.grid.padded_size(size if vae.video else size[1:])
        self.sample = np.empty((1, vae.config.in_channels, *(padded if vae.video else (1, *padded))), np.float32)
        self.filled = 0

    def add(self, pixels: NDArray[np.uint8]) -> bool:
        """Add a frame, uint8 (H, W, C). Returns whether the sample takes another frame."""
        frames, height, width = self.size
        if pixels.shape[:2] != (height, width):
            pixels = np.moveaxis(downscaled(np.moveaxis(pixels, -1, 0), self.largest_side), 0, -1)
        to_samples(pixels[np.newaxis], out=self.sample[:, :, self.filled, :height, :width])
        self.filled += 1
        return self.filled < frames

    def finish(self, path: Path, frame_rate: Fraction | None) -> SampleSource:
        frames, height, width = self.size
        if self.filled < frames:
            raise MediaError(f"{path} promises {frames} frames and holds {self.filled}: it is cut short; replace it")
        self.sample[:, :, :frames, height:, :width] = self.sample[:, :, :frames, height - 1 : height, :width]
        self.sample[:, :, :frames, :, width:] = self.sample[:, :, :frames, :, width - 1 : width]
        self.sample[:, :, frames:] = self.sample[:, :, frames - 1 : frames]
        full_size = None if self.full_size == (height, width) else self.full_size
        if self.video:
            return SampleSource(self.sample, self.size, frame_rate, full_size=full_size)
        return SampleSource(self.sample[:, :, 0], self.size[1:], full_size=full_size)


def _from_samples(
    array: NDArray[np.float32],
    vae: Autoencoder,
    path: Path,
    max_frames: int | None,
    largest_side: int | None,
    check_range: bool | None,
) -> SampleSource:
    rank = 5 if vae.video else 4
    sample = array[np.newaxis] if array.ndim == rank - 1 else array
    if sample.ndim != rank or sample.shape[1] != vae.config.in_channels:
        axes = "(C, T, H, W)" if vae.video else "(C, H, W)"
        raise InputError(
            f"{path} has shape {array.shape}: wanted {axes} with {vae.config.in_channels} channels, or a batch of them"
        )
    if vae.video and max_frames is not None:
        sample = sample[:, :, :max_frames]
    values = require_finite(sample, str(path))
    if check_range is not False:
        check_pixel_range(sample, values, can_skip=check_range is not None)
    full_size = sample.shape[-2:]
    if largest_side is not None:
        sample = downscaled(sample, largest_side)
    return SampleSource(
        np.ascontiguousarray(vae.grid.pad(sample)),
        tuple(sample.shape[2:]),
        full_size=None if sample.shape[-2:] == full_size else full_size,
    )
