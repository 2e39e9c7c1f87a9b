"""What is encoded: pictures, clips and arrays from disk, as samples for a model, padded to its grid."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .autoencoder import Autoencoder
from .clip_reader import CLIP_ENDINGS, open_clip
from .errors import InputError, MediaError
from .pictures import PICTURE_ENDINGS, list_pictures, read_picture
from .pixels import to_samples

__all__ = ["SampleSource", "list_inputs", "read_sample"]


@dataclass(frozen=True, eq=False)
class SampleSource:
    """A sample, float32 (B, C, H, W) or (B, C, T, H, W), padded to the model's grid at the end of each axis, and
    what it was before: `size` is (H, W) or (T, H, W)."""

    sample: NDArray[np.float32]
    size: tuple[int, ...]
    frame_rate: Fraction | None = None


def list_inputs(path: Path, vae: Autoencoder) -> list[Path] | None:
    """What a folder holds for this model: its pictures (image models) or its clips (video models). None if `path`
    is one input: a file, or for video models a folder of pictures, which is one clip.

    Raises:
        MediaError: the folder holds nothing to encode.
    """
    if not path.is_dir():
        return None
    pictures = list_pictures(path)
    if not vae.video:
        if not pictures:
            raise MediaError(f"{path} holds no pictures ({', '.join(PICTURE_ENDINGS)}): give another folder")
        return pictures
    clips = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in CLIP_ENDINGS)
    if clips and pictures:
        raise MediaError(f"{path} holds pictures and clips: one clip's frames and whole clips go in separate folders")
    if not clips and not pictures:
        raise MediaError(f"{path} holds neither clips ({', '.join(CLIP_ENDINGS)}) nor pictures: give another folder")
    return clips or None


def read_sample(path: Path, vae: Autoencoder, *, max_frames: int | None = None) -> SampleSource:
    """Read one picture, clip or `.npy` array as a sample of the model.

    `.npy`: uint8 (H, W, C) or (T, H, W, C) pixels, or float32 (C, ...) or (B, C, ...) in [-1, 1]. A video model
    takes a picture as a clip of one frame. `max_frames` cuts a clip.

    Raises:
        MediaError: the file is missing, damaged or of another kind. InputError: an array of the wrong shape.
    """
    if path.suffix.lower() == ".npy" and path.is_file():
        array = _load_array(path)
        if array.dtype == np.float32:
            return _from_samples(array, vae, path)
        if array.dtype != np.uint8:
            raise MediaError(f"{path} holds {array.dtype}: give uint8 pixels, or float32 in [-1, 1]")
    if vae.video:
        return _read_clip(path, vae, max_frames)
    if path.suffix.lower() == ".npy":
        pixels = array
        if pixels.ndim != 3 or pixels.shape[2] != vae.config.in_channels:
            raise MediaError(f"{path} has shape {pixels.shape}: wanted pixels (H, W, {vae.config.in_channels})")
    else:
        if path.suffix.lower() in CLIP_ENDINGS:
            raise MediaError(f"{path} is a clip and the bundle holds an image model ({vae.family}): give a picture")
        pixels = read_picture(path, vae.config.in_channels)
    return _Builder(vae, (1, *pixels.shape[:2])).add(pixels).finish(1, None)


def _read_clip(path: Path, vae: Autoencoder, max_frames: int | None) -> SampleSource:
    with open_clip(path, vae.config.in_channels) as clip:
        if clip.frame_count is None:
            frames = list(_limited(clip, max_frames))  # as uint8, a quarter of the sample
            count = len(frames)
            builder = _Builder(vae, (count, clip.height, clip.width))
            for frame in frames:
                builder.add(frame)
        else:
            count = min(clip.frame_count, max_frames or clip.frame_count)
            builder = _Builder(vae, (count, clip.height, clip.width))
            for frame in _limited(clip, count):
                builder.add(frame)
        return builder.finish(count, clip.frame_rate)


def _limited(frames: Iterator[NDArray[np.uint8]], count: int | None) -> Iterator[NDArray[np.uint8]]:
    for index, frame in enumerate(frames):
        if count is not None and index >= count:
            return
        yield frame


class _Builder:
    """Fills a sample of the padded size frame by frame, then repeats the edges: the clip is held once."""

    def __init__(self, vae: Autoencoder, size: tuple[int, int, int]) -> None:
        self.video = vae.video
        self.size = size
        padded = vae.grid.padded_size(size if vae.video else size[1:])
        self.sample = np.empty((1, vae.config.in_channels, *(padded if vae.video else (1, *padded))), np.float32)
        self.filled = 0

    def add(self, pixels: NDArray[np.uint8]) -> "_Builder":
        _, height, width = self.size
        if self.filled < self.size[0]:
            to_samples(pixels[np.newaxis], out=self.sample[:, :, self.filled, :height, :width])
        self.filled += 1
        return self

    def finish(self, count: int, frame_rate: Fraction | None) -> SampleSource:
        if self.filled < count:
            raise MediaError(f"the clip promises {count} frames and holds {self.filled}: it is cut short; replace it")
        frames, height, width = self.size
        self.sample[:, :, :frames, height:, :width] = self.sample[:, :, :frames, height - 1 : height, :width]
        self.sample[:, :, :frames, :, width:] = self.sample[:, :, :frames, :, width - 1 : width]
        self.sample[:, :, frames:] = self.sample[:, :, frames - 1 : frames]
        if self.video:
            return SampleSource(self.sample, self.size, frame_rate)
        return SampleSource(self.sample[:, :, 0], self.size[1:])


def _from_samples(array: NDArray[np.float32], vae: Autoencoder, path: Path) -> SampleSource:
    rank = 5 if vae.video else 4
    sample = array[np.newaxis] if array.ndim == rank - 1 else array
    if sample.ndim != rank or sample.shape[1] != vae.config.in_channels:
        axes = "(C, T, H, W)" if vae.video else "(C, H, W)"
        raise InputError(
            f"{path} has shape {array.shape}: wanted {axes} with {vae.config.in_channels} channels, or a batch of them"
        )
    size = sample.shape[2:]
    return SampleSource(np.ascontiguousarray(vae.grid.pad(sample)), tuple(size))


def _load_array(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError, SyntaxError, TokenError) as error:  # the header is read as Python
        raise MediaError(f"{path} is not a whole .npy array ({error}): replace it") from error
