"""Reading animated WebP, APNG and AVIF pictures as clips with a constant frame rate."""

import contextlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...arrays.size_text import size_text
from ...errors import MediaError
from ..notes import note
from ..pictures.opened_picture import opened_picture, translated_damage
from ..pictures.picture_pixels import upright_pixels
from .constant_rate import Pacing, paced

__all__ = ["AnimatedPicture", "is_animation"]

_ANIMATED_FORMATS = ("PNG", "WEBP", "AVIF")  # in other formats, several images are pages or views
_DEFAULT_DELAY = 100_000  # ticks for which a frame without a time is shown, as in browsers
_LONGEST_DELAY = 1_000_000_000  # ticks
_MOST_PIXELS = 1 << 25  # per frame, more than 8K video has; a tiny file may claim far more for every frame
_TICK = Fraction(1, 1_000_000)  # seconds; WebP and AVIF have times in milliseconds, and APNG has fractions of a second


def is_animation(image: Any) -> bool:
    """Whether an opened Pillow image is an animation of several frames."""
    return image.format in _ANIMATED_FORMATS and getattr(image, "n_frames", 1) > 1


class AnimatedPicture:
    """An open animation: an iterator of frames, uint8 (H, W, C) in sRGB. Close it after use.

    Opening decodes all frames for their times, and iterating decodes them again. One frame is in memory at a time.
    Frames of different durations are repeated or left out so that each keeps its time (see `constant_rate.py`).

    Attributes:
        frame_rate: frames per second.
        frame_count: the number of frames that the iterator gives.
        height: in pixels, after turning upright.
        width: in pixels, after turning upright.

    Raises:
        MediaError: the file is damaged or too large, or its times differ too much for a constant rate.
    """

    def __init__(self, path: Path, channels: int, background: Sequence[int]) -> None:
        self._path, self._channels, self._background = path, channels, background
        with contextlib.ExitStack() as stack:
            self._image = stack.enter_context(opened_picture(path))
            if self._image.width * self._image.height > _MOST_PIXELS:
                size = f"{size_text((self._image.height, self._image.width))} pixels (height x width)"
                raise MediaError(f"{path} is an animation of {size}, too large for a clip: make it smaller first")
            # An APNG may start with a picture for programs that do not show animations. It is not a frame.
            self._start = 1 if self._image.info.get("default_image") else 0
            with translated_damage(path):
                self._delays = self._read_delays()
            self._times = [0, *accumulate(self._delays)]
            pacing = self._pacing()
            self.frame_rate, self.frame_count = pacing.rate, pacing.frames
            first = self._pixels(0)
            self.height, self.width = first.shape[:2]
            self._frames = self._paced(pacing)
            self._stack = stack.pop_all()

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return self

    def __next__(self) -> NDArray[np.uint8]:
        return next(self._frames)

    def close(self) -> None:
        """Close the file and end the iteration."""
        self._frames = iter(())
        self._stack.close()

    def _read_delays(self) -> list[int]:
        """The duration of each frame, in ticks."""
        delays = []
        for place in range(self._image.n_frames - self._start):
            self._seek(place)
            self._image.load()  # for WebP and AVIF, Pillow knows the duration of a frame after decoding it
            milliseconds = self._image.info.get("duration") or 0
            delay = round(milliseconds * 1000) if milliseconds > 0 else _DEFAULT_DELAY
            if not 0 < delay <= _LONGEST_DELAY:
                raise MediaError(
                    f"{self._path} shows frame {place} for {milliseconds / 1000:.3g} seconds: give each frame of a "
                    "clip at most 1000 seconds"
                )
            delays.append(delay)
        return delays

    def _seek(self, place: int) -> None:
        try:
            self._image.seek(self._start + place)
        except EOFError as error:
            raise MediaError(
                f"{self._path} promises {self._image.n_frames - self._start} frames and holds {place}: "
                "it is cut short; replace it"
            ) from error

    def _pacing(self) -> Pacing:
        # In whole milliseconds if possible: Pacing then recognises 33, 33 and 34 as 30 frames per second, rounded.
        unit = 1000 if all(delay % 1000 == 0 for delay in self._delays) else 1
        starts = np.array(self._times[:-1], np.int64) // unit
        try:
            pacing = Pacing.of(starts, _TICK * unit, last=self._delays[-1] // unit)
        except MediaError as error:
            raise MediaError(f"{self._path} cannot be read as a clip: {error}") from error
        if pacing is None:  # a single frame
            return Pacing(1 / (self._delays[0] * _TICK), even=True, frames=1)
        if not pacing.even:
            note(
                self._path,
                "times",
                f"shows its frames for different times: read at {float(pacing.rate):.4g} frames per second, so that "
                f"{len(self._delays)} frames become {pacing.frames}",
            )
        return pacing

    def _paced(self, pacing: Pacing) -> Iterator[NDArray[np.uint8]]:
        timed = (
            (self._pixels(place), self._times[place] * _TICK, delay * _TICK) for place, delay in enumerate(self._delays)
        )
        for pixels in paced(timed, pacing):
            yield pixels if pacing.even else pixels.copy()  # so that a repeated frame is a new array too

    def _pixels(self, place: int) -> NDArray[np.uint8]:
        with translated_damage(self._path):
            self._seek(place)
            return upright_pixels(self._image, self._path, self._channels, self._background)
