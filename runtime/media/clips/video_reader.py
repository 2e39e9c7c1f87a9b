"""Reading video files frame by frame: in the right colours, upright and at a constant rate."""

import contextlib
import shlex
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...arrays.size_text import size_text
from ...errors import MediaError
from ...extras import require
from ...system.file_kinds import not_the_wanted_kind
from ..endings import CONTAINER_FORMATS
from ..notes import note
from .constant_rate import Pacing, paced
from .container_cropping import cropping_of
from .container_truncation import is_truncated
from .deinterlacer import deinterlaced
from .frame_colours import ContainerTags, FrameColours
from .frame_conversion import FrameConverter
from .video_geometry import Orientation, sample_aspect_ratio, side_data_names
from .video_timing import PacketTimes, declared_frame_count, declared_rate, gif_delay, has_field_packets, pacing_of

__all__ = ["VideoReader"]

# Without these lists, FFmpeg would also open text as terminal art, and playlists that name other files and addresses.
_ALLOWED = {"format_whitelist": CONTAINER_FORMATS, "protocol_whitelist": "file"}
_DECODERS_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's native decoders ignore WebM's alpha
# Kinds of files by their bytes that can be damaged clips, or that FFmpeg's message fits better.
_MAYBE_CLIPS = ("mp4", "matroska", "avi", "flv", "mpeg", "gif", "ogg", "empty", "zeros", "text", "xml")
_HD_LINES = 720  # from this height up, an assumed matrix is noted


class VideoReader:
    """An open video file: an iterator of frames, uint8 (H, W, C). Close it after use.

    Only the few frames of the decoder are in memory. Each frame is a new array that the caller owns. Facts that the
    pixels do not show (sound, assumed colours, deinterlacing, changed times) are noted in the log (see
    `media/notes.py`).

    Attributes:
        frame_rate: frames per second. None if the file has no times.
        frame_count: the number of frames. None if the container declares none, if an edit list hides some frames, or if
            frames are repeated or left out for a constant rate.
        height: in pixels, after rotation.
        width: in pixels, after rotation.
        sample_aspect_ratio: a pixel's width over its height, after rotation. None if pixels are square.

    Raises:
        MediaError: the file is missing, empty, cut off or damaged, or its format is none of `CONTAINER_FORMATS`.
        MissingExtra: PyAV is not installed.
    """

    def __init__(
        self,
        path: Path,
        channels: int,
        *,
        background: tuple[int, int, int] = (255, 255, 255),
        matrix: str | None = None,
    ) -> None:
        """Open a video file.

        Args:
            path: the file.
            channels: 3 for RGB, 4 for RGBA (opaque if the video has no alpha), 1 for BT.601 luma.
            background: red, green and blue in [0, 255]. Transparent frames are blended over it, unless `channels` is 4.
            matrix: "bt709" or "bt601", to use instead of the matrix that the file names.
        """
        self._path, self._matrix = path, matrix
        self._av = require("av", extra="media")
        self._converter = FrameConverter(channels, background=background, note=self._note)
        self._decoded, self._first_start = 0, Fraction(0)
        with contextlib.ExitStack() as stack, self._errors():
            if path.stat().st_size == 0:
                raise MediaError(f"{path} is empty: give another file")
            self._container = stack.enter_context(self._open())
            if is_truncated(path):
                raise MediaError(f"{path} is cut off before its end: copy or download it again")
            stream = self._container.streams.best("video")
            if stream is None:
                raise MediaError(f"{path} has no video in it: give another file")
            if stream.codec_context is None:
                raise MediaError(f"{path} has video of an unknown kind: convert it to H.264 first")
            stream.thread_type = "AUTO"
            self._tags = ContainerTags.of(stream.codec_context)
            self._stream, kind = stream, self._container.format.name
            self._by_ffmpeg = _is_by_ffmpeg(self._container)
            self._pacing = self._read_pacing(stream.index)
            self.frame_rate = self._pacing.rate if self._pacing else declared_rate(stream, kind)
            self._orientation = Orientation()
            self._cropping = cropping_of(path, stream.codec_context.height, stream.codec_context.width)
            self._pixels = self._all_pixels()
            self._previous: NDArray[np.uint8] | None = None
            self._first: NDArray[np.uint8] | None = next(self._pixels, None)
            if self._first is None:
                raise MediaError(f"{path} has no frames that can be decoded: give another file")
            self.frame_count = self._counted(declared_frame_count(stream, kind))
            self.height, self.width = self._first.shape[:2]
            self.sample_aspect_ratio = sample_aspect_ratio(stream, self._orientation)
            self._note_what_is_lost()
            self._stack = stack.pop_all()

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return self

    def __next__(self) -> NDArray[np.uint8]:
        if self._first is not None:
            self._previous, self._first = self._first, None
            return self._previous
        with self._errors():
            following = next(self._pixels, None)
        if following is None:
            self._previous = None
            raise StopIteration
        if following.shape[:2] != (self.height, self.width):
            raise MediaError(
                f"frame {self._decoded - 1} of {self._path} is {size_text(following.shape[:2])} and the first "
                f"is {size_text((self.height, self.width))} (height x width): split the clip there"
            )
        return following

    def close(self) -> None:
        """Close the file and end the iteration."""
        self._first, self._pixels = None, iter(())
        self._stack.close()

    def _open(self) -> Any:
        # An absolute path, so that FFmpeg does not take a name such as "concat:a" for a protocol.
        return self._av.open(str(self._path.absolute()), options=_ALLOWED)

    def _read_pacing(self, index: int) -> Pacing | None:
        with self._open() as container:
            self._fields = has_field_packets(container, container.streams[index])
        with self._open() as container:
            stream = container.streams[index]
            self._times = PacketTimes.of(container, stream, fields=self._fields)
            try:
                pacing = pacing_of(self._times, container, stream)
            except MediaError as error:
                raise MediaError(f"{self._path} cannot be read: {error}") from error
        if pacing is not None and not pacing.even:
            self._note(
                "timing",
                f"shows its frames for different times: it is read at {_rate_text(pacing.rate)} frames per second, "
                "and frames are repeated or left out so that each keeps its time",
            )
        elif pacing is not None and self._times is not None and self._times.behind_a_cut():
            self._note("cut", "lacks frames before its last ones, because it was cut without encoding it again")
        return pacing

    def _counted(self, declared: int | None) -> int | None:
        """The number of frames that come, after the first one has been decoded.

        A clip that was cut without encoding it again may begin with frames that need earlier ones. They have packets,
        and no decoder shows them.
        """
        if declared is None or self._fields or not (self._pacing is None or self._pacing.even):
            return None
        if self._times is None or self._container.format.name == "gif":
            return declared
        return len(self._times.starts) - self._times.before(self._first_start / self._stream.time_base)

    def _all_pixels(self) -> Iterator[NDArray[np.uint8]]:
        if self._pacing is None or self._pacing.even:
            for pixels, _, _ in self._timed_pixels():
                yield pixels
            return
        previous: NDArray[np.uint8] | None = None
        for pixels in paced(self._timed_pixels(), self._pacing):
            yield pixels.copy() if pixels is previous else pixels
            previous = pixels

    def _timed_pixels(self) -> Iterator[tuple[NDArray[np.uint8], Fraction, Fraction]]:
        """The upright pixels of each frame, with its start and duration in seconds."""
        context = self._stream.codec_context
        is_gif, end, rotation = self._container.format.name == "gif", Fraction(0), 0
        for frame, picture in deinterlaced(self._frames(), self._note_interlacing):
            self._decoded += 1
            try:
                colours = FrameColours.of(
                    frame,
                    matrix=self._matrix,
                    by_ffmpeg=self._by_ffmpeg,
                    context=context,
                    container=self._tags,
                    first=self._decoded == 1,
                )
                pixels = self._converter.convert(picture, colours)
            except MediaError as error:
                raise MediaError(f"{self._path} cannot be read: {error}") from error
            # Reading side data keeps a frame in memory (see FrameColours.of), so do it only if the rotation changes.
            if self._decoded == 1 or frame.rotation != rotation:
                self._orientation, rotation = Orientation.of(frame), frame.rotation
            if self._decoded == 1:
                self._note_frame(frame, colours)
            tick = Fraction(frame.time_base or 0)
            start, duration = (frame.pts or 0) * tick, (frame.duration or 0) * tick
            if is_gif:
                start, duration = end, gif_delay(frame.duration) * tick
            end = start + duration
            if self._decoded == 1:
                self._first_start = start
            if self._cropping is not None and self._cropping.fits(*pixels.shape[:2]):
                pixels = self._cropping.apply(pixels)
            yield self._orientation.apply(pixels), start, duration

    def _frames(self) -> Iterator[Any]:
        for place, frame in enumerate(self._decode()):
            if getattr(frame, "is_corrupt", False):
                raise MediaError(f"{self._path} is damaged at frame {place}: replace it")
            yield frame

    def _decode(self) -> Iterator[Any]:
        stream = self._stream
        name = _DECODERS_WITH_ALPHA.get(stream.codec_context.name)
        if name is None or stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) != "1":
            yield from self._container.decode(stream)
            return
        try:
            decoder = self._av.CodecContext.create(name, "r")
        except ValueError:  # PyAV's UnknownCodecError is a ValueError
            self._note("transparency", f"has transparency, which needs the decoder {name}: it is left out")
            yield from self._container.decode(stream)
            return
        for tag in ("colorspace", "color_range", "color_primaries", "color_trc"):  # the container's tags
            setattr(decoder, tag, getattr(stream.codec_context, tag))
        for packet in self._container.demux(stream):
            for frame in decoder.decode(packet if packet.size else None):
                frame.time_base = stream.time_base
                yield frame

    def _note(self, kind: str, sentence: str) -> None:
        note(self._path, kind, sentence)

    def _note_interlacing(self) -> None:
        self._note("interlacing", "has interlaced frames: they are deinterlaced (bwdif), one picture for each frame")

    def _note_frame(self, frame: Any, colours: FrameColours) -> None:
        if colours.assumed and frame.height >= _HD_LINES:
            other = "bt709" if colours.matrix == "bt601" else "bt601"
            why = "FFmpeg's libraries wrote it" if self._by_ffmpeg else "it is high definition"
            self._note(
                "matrix",
                f"does not name its colour matrix: {colours.matrix} is assumed, as {why} "
                f"(--colour-matrix {other} reads it otherwise)",
            )
        if self._cropping is not None:
            self._note("cropping", "is cropped as its container says")
        if not self._orientation.exact:
            self._note("angle", "asks to be turned by an angle that is no quarter turn: the nearest one is applied")
        if side_data_names(frame) & {"STEREO3D", "SPHERICAL"}:
            self._note("stereo", "is stereoscopic or spherical video: its pixels are kept, but latents do not say so")

    def _note_what_is_lost(self) -> None:
        if self._container.streams.audio:
            self._note(
                "sound",
                "has sound, which latents do not hold: to add it to the decoded clip, run "
                f"ffmpeg -i DECODED -i {shlex.quote(str(self._path))} -map 0:v -map 1:a -c copy WITH_SOUND",
            )
        if self.sample_aspect_ratio is not None:
            ratio = self.sample_aspect_ratio
            self._note(
                "aspect",
                f"has pixels that are not square ({ratio.numerator}:{ratio.denominator}): they are encoded as they "
                "are, and the latents file keeps the ratio",
            )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise MediaError(f"{self._path} does not exist: check the name") from error
        except (self._av.error.FFmpegError, OSError, EOFError, ValueError) as error:
            sentence = None if self._decoded else not_the_wanted_kind(self._path, "a clip", _MAYBE_CLIPS)
            if sentence is not None:
                raise MediaError(sentence) from error
            reason = getattr(error, "strerror", None) or str(error)
            what = f"is damaged after frame {self._decoded}" if self._decoded else "is not a whole video"
            raise MediaError(
                f"{self._path} {what} ({reason}): give an MP4, MOV, MKV, WebM, AVI, MPEG or GIF file"
            ) from error


def _is_by_ffmpeg(container: Any) -> bool:
    return any(key.lower() == "encoder" and value.startswith("Lav") for key, value in container.metadata.items())


def _rate_text(rate: Fraction) -> str:
    return f"{float(rate):.5g}"
