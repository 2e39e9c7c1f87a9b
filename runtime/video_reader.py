"""Video files in: decoded frame by frame, in the right colours and the right way up."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import MediaError
from .extras import require
from .media_endings import CONTAINER_FORMATS
from .video_colours import FromVideo
from .whole_container import is_cut_off

__all__ = ["VideoReader"]

# Anything else FFmpeg would try too: text as terminal art, playlists that name other files and addresses.
_ALLOWED = {"format_whitelist": CONTAINER_FORMATS, "protocol_whitelist": "file"}


class VideoReader:
    """One open video file: an iterator of uint8 (H, W, C) frames that ends with the file; `close` it afterwards.

    Holds the decoder's own few frames, never the clip. Each frame is a fresh array that the caller owns.

    Attributes:
        frame_rate: frames per second, or None if the file does not tell.
        frame_count: as the container declares it, or None if it does not or an edit list hides some frames.
        height: in pixels, after rotation.
        width: in pixels, after rotation.

    Raises:
        MediaError: the file is missing, empty, cut off, damaged, or in none of `CONTAINER_FORMATS`.
        MissingExtra: PyAV is not installed.
    """

    def __init__(self, path: Path, channels: int) -> None:
        self._path = path
        self._av = require("av", extra="media")
        self._colours = FromVideo(channels)
        self._decoded = 0
        with contextlib.ExitStack() as stack, self._errors():
            if path.stat().st_size == 0:
                raise MediaError(f"{path} is empty: give another file")
            # Absolute, so that a name like "concat:a" stays a name.
            self._container = stack.enter_context(self._av.open(str(path.absolute()), options=_ALLOWED))
            if is_cut_off(path):
                raise MediaError(f"{path} is cut off before its end: copy or download it again")
            stream = self._container.streams.best("video")
            if stream is None:
                raise MediaError(f"{path} has no video in it: give another file")
            stream.thread_type = "AUTO"
            self._frames: Iterator[Any] = self._container.decode(stream)
            self.frame_rate = _frame_rate(stream, self._container.format.name)
            self.frame_count = _frame_count(stream, self._container.format.name)
            self._first: NDArray[np.uint8] | None = self._next_pixels()
            if self._first is None:
                raise MediaError(f"{path} has no frames that can be decoded: give another file")
            self.height, self.width = self._first.shape[:2]
            self._stack = stack.pop_all()

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return self

    def __next__(self) -> NDArray[np.uint8]:
        if self._first is not None:
            pixels, self._first = self._first, None
            return pixels
        with self._errors():
            following = self._next_pixels()
        if following is None:
            raise StopIteration
        if following.shape[:2] != (self.height, self.width):
            raise MediaError(
                f"frame {self._decoded - 1} of {self._path} is {following.shape[1]}x{following.shape[0]} and the first "
                f"is {self.width}x{self.height}: split the clip there"
            )
        return following

    def close(self) -> None:
        """Close the file; iteration ends here."""
        self._first, self._frames = None, iter(())
        self._stack.close()

    def _next_pixels(self) -> NDArray[np.uint8] | None:
        frame = next(self._frames, None)
        if frame is None:
            return None
        self._decoded += 1
        if getattr(frame, "is_corrupt", False):
            raise MediaError(f"{self._path} is damaged at frame {self._decoded - 1}: replace it")
        try:
            pixels = self._colours.convert(frame)
        except MediaError as error:
            raise MediaError(f"{self._path} cannot be read: {error}") from error
        turns = round(getattr(frame, "rotation", 0) / 90) % 4  # anticlockwise, as NumPy's
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise MediaError(f"{self._path} does not exist: check the name") from error
        except (self._av.error.FFmpegError, OSError, EOFError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            what = f"is damaged after frame {self._decoded}" if self._decoded else "is not a whole video"
            raise MediaError(
                f"{self._path} {what} ({reason}): give an MP4, MOV, MKV, WebM, AVI, MPEG or GIF file"
            ) from error


def _frame_rate(stream: Any, container: str) -> Fraction | None:
    rates = [stream.average_rate, stream.guessed_rate, stream.base_rate]
    if container == "gif":
        if stream.frames == 1:
            return None  # a still picture: what it has is the shortest delay there is
        # GIF counts time in 1/100 s, so an average over few frames is off; the guess sees through the rounding.
        rates.insert(0, stream.guessed_rate)
    return next((Fraction(rate) for rate in rates if rate), None)


def _frame_count(stream: Any, container: str) -> int | None:
    frames, duration, rate = stream.frames, stream.duration, stream.average_rate
    if not frames:
        return None
    if container == "gif" or not duration or not rate or stream.time_base is None:
        return int(frames)
    shown = duration * stream.time_base * rate  # less than there are when an edit list cuts the clip
    return int(frames) if abs(shown - frames) < Fraction(1, 2) else None
