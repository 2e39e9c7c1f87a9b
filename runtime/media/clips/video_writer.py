"""Writing video files frame by frame: H.264, VP9 or GIF."""

import contextlib
import errno
import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError, OutputError
from ...extras import require
from ...system.outputs.partial_output import output_error
from ...system.processor import processor
from .frame_colours import BT709, LIMITED_RANGE
from .frame_conversion import encoder_graph
from .webm_display_size import write_display_size

__all__ = ["VideoWriter"]

_LOG = logging.getLogger(__name__)

# Encoders in order of preference, with their settings. Encoders without a quality scale ("crf") get a bit rate.
_LEFT = {"chroma_sample_location": "left"}
_H264 = (("libx264", {"crf": "17", "preset": "medium", **_LEFT}), ("libopenh264", _LEFT), ("mpeg4", _LEFT))
_VP9 = (("libvpx-vp9", {"crf": "17", "b:v": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1", **_LEFT}),)
_GIF: tuple[tuple[str, dict[str, str]], ...] = (("gif", {}),)
_ENCODERS: dict[str, tuple[tuple[str, dict[str, str]], ...]] = {
    ".mp4": _H264,
    ".m4v": _H264,
    ".mov": _H264,
    ".mkv": _H264,
    ".webm": _VP9,
    ".gif": _GIF,
}
# x264's code for AVX-512 (build 165) reads memory in its macroblock tree that it never wrote, unless both sides are
# multiples of 16. So one clip could give different files. Its code for AVX2 gives the bytes of its plain C code. Every
# processor with AVX-512 has these instructions. A clip of 1080x1920 takes the same time within 3 %.
_WITHOUT_AVX512 = {"x264-params": "asm=AVX2,FMA3,BMI2,LZCNT"}
_BITS_PER_PIXEL = 0.25  # the bit rate of encoders without a quality scale: generous
_MOST_SIDE = {"libx264": 16384, "libvpx-vp9": 65536, "gif": 65535, "mpeg4": 8191}  # pixels, as found by trying
_OF_THE_DISK = (
    errno.ENOSPC,
    errno.EACCES,
    errno.EROFS,
    errno.EIO,
    errno.ENOENT,
    getattr(errno, "EDQUOT", errno.ENOSPC),
)
_MOST_GIF_RATE_OF_PLAYERS = 50  # frames per second; browsers show a delay below 2/100 s as 10/100 s
_HELD_BYTES, _HELD_BYTES_PER_PIXEL = 24 << 20, 190  # the memory of an encoder: see `held_bytes`


class VideoWriter:
    """A video file that is being written. `close` completes it, and `abort` gives it up.

    Frames are stored in 4:2:0, BT.709, limited range, and tagged so. A GIF has a palette for each frame. The encoder
    holds about 40 frames for its look-ahead, and never the clip.

    Raises:
        MediaError: the installed FFmpeg libraries have no encoder for this ending.
        OutputError: the encoder does not take the size or the frame rate, or the file cannot be written.
        MissingExtra: PyAV is not installed.
    """

    def __init__(
        self,
        file: Path,
        path: Path,
        frame_rate: Fraction,
        height: int,
        width: int,
        sample_aspect_ratio: Fraction | None = None,
    ) -> None:
        """Open the file for writing.

        Args:
            file: the file to write.
            path: the name that errors use, because `file` is renamed to it later. Its ending chooses the format.
            frame_rate: frames per second.
            height: in pixels.
            width: in pixels.
            sample_aspect_ratio: a pixel's width over its height. None for square pixels.
        """
        self._av = require("av", extra="media")
        self._file, self._path, self._sample_aspect_ratio = file, path, sample_aspect_ratio
        self._time_base, self._written = 1 / frame_rate, 0
        codec, options = self._encoder(path.suffix.lower())
        # H.264 in 4:2:0 has no odd sizes, and most players do not play 4:4:4. VP9 and GIF have odd sizes.
        self._pad = (height % 2, width % 2) if codec not in ("libvpx-vp9", "gif") else (0, 0)
        with self._errors(), contextlib.ExitStack() as stack:
            flags = {"movflags": "+faststart"} if path.suffix.lower() in (".mp4", ".m4v", ".mov") else {}
            self._container = stack.enter_context(self._av.open(str(file.absolute()), "w", options=flags))
            stream = self._stream = self._container.add_stream(codec, rate=frame_rate, options=options)
            stream.height, stream.width = height + self._pad[0], width + self._pad[1]
            if sample_aspect_ratio is not None:
                stream.codec_context.sample_aspect_ratio = sample_aspect_ratio
            if codec == "gif":
                if frame_rate > _MOST_GIF_RATE_OF_PLAYERS:
                    _LOG.warning("%s: players show a GIF of more than 50 frames per second with only 10", path)
                stream.pix_fmt = "pal8"
                self._graph = _palette_graph(height, width, self._time_base)
            else:
                stream.pix_fmt = "yuv420p"
                self._graph = encoder_graph(stream.height, stream.width, self._time_base)
                context = stream.codec_context
                context.colorspace = context.color_primaries = context.color_trc = BT709
                context.color_range = LIMITED_RANGE
                if "crf" not in options:
                    stream.bit_rate = int(height * width * frame_rate * _BITS_PER_PIXEL)
            self._start(codec, frame_rate)
            stack.pop_all()

    def _start(self, codec: str, frame_rate: Fraction) -> None:
        """Open the encoder and write the head of the file, so that what the encoder does not take fails now."""
        try:
            self._container.start_encoding()
        except (self._av.error.FFmpegError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
                raise
            height, width = self._stream.height, self._stream.width
            known = _MOST_SIDE.get(codec)
            limit = f", which takes at most {known} per side" if known and max(height, width) > known else ""
            raise OutputError(
                f"cannot write {self._path.name}: its encoder {codec}{limit}, does not take frames of {width}x{height} "
                f"pixels (width x height) at {float(frame_rate):g} per second: write a folder of frames (a name "
                f"without an ending) or .npy instead"
            ) from error

    @staticmethod
    def held_bytes(height: int, width: int) -> int:
        """An estimate of an encoder's peak memory, in bytes, for frames of this size.

        It is the memory of libx264's look-ahead, measured as 367 MiB for 1920x1088 and 169 MiB for 1280x704.
        libvpx-vp9 takes 138 MiB for 1280x704.
        """
        return _HELD_BYTES + _HELD_BYTES_PER_PIXEL * height * width

    def write(self, pixels: NDArray[np.uint8]) -> None:
        """Encode one frame, uint8 (H, W, 3). If the codec needs even sizes, the last row or column is repeated."""
        with self._errors():
            if any(self._pad):
                pixels = np.pad(pixels, ((0, self._pad[0]), (0, self._pad[1]), (0, 0)), mode="edge")
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = self._written, self._time_base
            self._written += 1
            self._encode(frame)

    def close(self) -> None:
        """Flush the encoder and complete the file."""
        with self._errors():
            self._encode(None)
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._write_display_size()

    def abort(self) -> None:
        """Close the file without completing it."""
        with contextlib.suppress(self._av.error.FFmpegError, OSError, ValueError):
            self._container.close()

    def _write_display_size(self) -> None:
        """Write the sample aspect ratio to a WebM file, because PyAV does not. Other files have it already."""
        ratio = self._sample_aspect_ratio
        if ratio is None or self._path.suffix.lower() != ".webm":
            return
        if not write_display_size(self._file, self._stream.height, self._stream.width, ratio):
            _LOG.warning("%s does not say that its pixels are not square (%s): write .mp4", self._path, ratio)

    def _encode(self, frame: Any) -> None:
        self._graph.push(frame)
        while True:
            try:
                converted = self._graph.pull()
            except (self._av.error.BlockingIOError, self._av.error.EOFError):  # the graph needs a frame, or is done
                return
            self._container.mux(self._stream.encode(converted))

    def _encoder(self, ending: str) -> tuple[str, dict[str, str]]:
        for place, (name, options) in enumerate(_ENCODERS[ending]):
            try:
                self._av.codec.Codec(name, "w")
            except ValueError:  # PyAV's UnknownCodecError is a ValueError
                continue
            if place:
                _LOG.warning("%s is not installed: %s encodes %s", _ENCODERS[ending][0][0], name, self._path)
            if name == "libx264" and "avx512f" in processor().instructions:
                options = options | _WITHOUT_AVX512
            return name, options
        wanted = " or ".join(name for name, _ in _ENCODERS[ending])
        raise MediaError(
            f"writing {ending} needs the encoder {wanted}, which the installed PyAV lacks: write .npy instead"
        )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OutputError:
            raise
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            raise output_error(self._path, error) from error


def _palette_graph(height: int, width: int, time_base: Fraction) -> Any:
    """Make the filter graph that converts RGB frames to frames with a palette of 256 colours each."""
    graph = require("av.filter", extra="media").Graph()
    source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=time_base)
    split, sink = graph.add("split"), graph.add("buffersink")
    palette, applied = graph.add("palettegen", "stats_mode=single"), graph.add("paletteuse", "new=1")
    source.link_to(split)
    split.link_to(applied, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(applied, 0, 1)
    applied.link_to(sink)
    graph.configure()
    return graph
