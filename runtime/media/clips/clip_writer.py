"""Writing clips frame by frame, whole or not at all: video files, folders of PNG frames and `.npy` arrays."""

import contextlib
import re
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ....tiling.public_place import shown_in
from ...errors import InputError, OutputError
from ...extras import require
from ...system.outputs.folder_filling import folder_entries
from ...system.outputs.partial_output import output_ending, partial_output, translated_errors
from ..pictures.picture_file import write_picture
from .clip_reader import CLIP_ENDINGS
from .video_writer import VideoWriter

__all__ = ["ClipWriter", "write_clip"]

_NPY_HEADER_BYTES = 128
_MAX_RATE, _MAX_GIF_RATE = 1000, 100  # frames per second
_MIN_RATE = Fraction(1, 86400)  # frames per second: MP4 holds no longer frames than about 30 hours
_MIN_GIF_RATE = Fraction(100, 65535)  # a GIF stores the time of a frame as at most 65535 hundredths of a second


@shown_in("latentrt.runtime")
def write_clip(
    path: Path | str,
    frame_rate: Fraction | int | None = None,
    *,
    overwrite: bool = False,
    sample_aspect_ratio: Fraction | None = None,
) -> "ClipWriter":
    """Prepare to write a clip. The ending of `path` chooses the kind:

    - `.mp4`, `.m4v`, `.mov`, `.mkv`: H.264, 4:2:0, BT.709 in limited range, tagged so. H.264 in 4:2:0 has no odd sizes,
      so an odd height or width grows by one by repeating the last row or column.
    - `.webm`: VP9 with the same colours, in any size.
    - `.gif`: 256 colours per frame. Times are rounded to 1/100 s.
    - `.npy`: uint8 (T, H, W, C).
    - No ending, a name that ends in a slash, or an existing folder: a folder of `frame_00000.png` and so on.

    Args:
        path: the output. Its folder must exist.
        frame_rate: frames per second. Folders and `.npy` files need no frame rate and do not store it.
        overwrite: whether to replace an existing output. A folder is replaced only if it holds nothing except such
            frames. An empty folder is always used.
        sample_aspect_ratio: a pixel's width over its height, for video files. None for square pixels.

    Raises:
        InputError: the frame rate is missing where it is needed, or not positive.
        OutputError: the output exists, its ending is unknown, or its folder is missing.
        MissingExtra: PyAV or Pillow is needed and not installed.
    """
    rate = None if frame_rate is None else Fraction(frame_rate)
    return ClipWriter(Path(path), output_ending(path), rate, overwrite, sample_aspect_ratio)


class _Sink(Protocol):
    """Writes one kind of output. `write` takes one frame, `close` completes the output, `abort` gives it up."""

    def write(self, pixels: NDArray[np.uint8]) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


@shown_in("latentrt.runtime")
class ClipWriter:
    """A clip that is being written; a context manager. `write_clip` makes it.

    The complete output appears when the block ends without an exception. On an exception, including KeyboardInterrupt,
    nothing is left of the output, and an existing output stays as it was. Frames are written as they come, so the clip
    is never in memory as a whole.
    """

    def __init__(
        self,
        path: Path,
        ending: str,
        frame_rate: Fraction | None,
        overwrite: bool,
        sample_aspect_ratio: Fraction | None = None,
    ) -> None:
        if ending not in ("", ".npy", *CLIP_ENDINGS):
            raise OutputError(
                f"cannot write {path} as a clip: end its name in {', '.join(CLIP_ENDINGS)} or .npy, "
                "or end it in / for a folder of pictures"
            )
        if ending in CLIP_ENDINGS:
            if frame_rate is None or frame_rate <= 0:
                raise InputError(f"{path.name} needs a frame rate above 0, got {frame_rate}: give one, such as 24")
            most = _MAX_GIF_RATE if ending == ".gif" else _MAX_RATE
            if frame_rate > most:
                raise InputError(
                    f"{path.name} takes at most {most} frames per second, got {float(frame_rate):g}: give a lower rate"
                    f"{', or write .mp4' if most == _MAX_GIF_RATE else ''}"
                )
            least = _MIN_GIF_RATE if ending == ".gif" else _MIN_RATE
            if frame_rate < least:
                raise InputError(
                    f"{path.name} shows a frame for at most {float(1 / least):.0f} seconds, got {frame_rate} frames "
                    f"per second: give a higher rate{', or write .mp4' if least == _MIN_GIF_RATE else ''}"
                )
            frame_rate = frame_rate.limit_denominator(1001000)  # video files store it as two 32-bit numbers
            require("av", extra="media")
        elif not ending:
            require("PIL.Image", extra="media")
            _check_folder(path)
        self._ending = ending
        self._path, self._frame_rate, self._sample_aspect_ratio = path, frame_rate, sample_aspect_ratio
        self._partial_output = partial_output(path, overwrite=overwrite)
        self._partial: Path | None = None
        self._sink: _Sink | None = None
        self._shape: tuple[int, ...] = ()
        self._failed = False

    def __enter__(self) -> Self:
        self._partial = self._partial_output.__enter__()
        return self

    def begin(self, height: int, width: int, channels: int = 3) -> None:
        """Open the output for frames of this size, before the first frame is there.

        So a size or a rate that the format does not take fails before the frames are made. Without this call, the first
        frame opens the output.

        Args:
            height: in pixels.
            width: in pixels.
            channels: the channels of a frame.

        Raises:
            OutputError: the format does not take the size or the rate, or the output cannot be written.
            MediaError: the installed FFmpeg has no encoder for the output.
        """
        if self._partial is None:
            raise OutputError(f"{self._path} is not open for writing: use `with write_clip(...) as clip`")
        if self._sink is None:
            self._shape = (height, width, channels)
            try:
                with translated_errors(self._path):
                    self._sink = self._open(self._partial, height, width, channels)
            except BaseException:
                self._failed = True
                raise

    def write(self, frames: NDArray[np.uint8]) -> None:
        """Add one or several frames.

        Args:
            frames: uint8 (H, W, C) or (T, H, W, C). All frames of a clip have the same shape. Video files take C = 3
                or 1 (gray). Folders and arrays take C = 1, 3 or 4.

        Raises:
            InputError: the array has the wrong dtype or shape. None of its frames is written.
            OutputError: writing fails, for example because the disk is full. The clip is then lost.
        """
        clip = self._check(frames)
        if self._partial is None:
            raise OutputError(f"{self._path} is not open for writing: use `with write_clip(...) as clip`")
        try:
            with translated_errors(self._path):
                for frame in clip:
                    if self._sink is None:
                        self._sink = self._open(self._partial, *frame.shape)
                    self._sink.write(np.repeat(frame, 3, axis=2) if self._is_gray_video() else frame)
        except BaseException:
            self._failed = True
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._partial = None
        if error is None:
            with contextlib.ExitStack() as stack:
                stack.push(self._partial_output)  # renames the output, or removes it if the next line raises
                self._finish()
            return
        if self._sink is not None:
            self._sink.abort()
        self._partial_output.__exit__(kind, error, trace)

    def _finish(self) -> None:
        if self._sink is None:
            raise InputError(f"{self._path} got no frames: write at least one")
        try:
            if self._failed:
                raise OutputError(f"{self._path} lost a frame that could not be written: write the clip again")
            with translated_errors(self._path):
                self._sink.close()
        except BaseException:
            self._sink.abort()
            raise

    def _check(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        wanted = "uint8 (H, W, C) or (T, H, W, C)"
        if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim not in (3, 4):
            got = f"{frames.dtype} {frames.shape}" if isinstance(frames, np.ndarray) else type(frames).__name__
            raise InputError(f"frames must be {wanted}, got {got}: convert them first")
        clip = frames if frames.ndim == 4 else frames[np.newaxis]
        shape = clip.shape[1:]
        allowed = (1, 3) if self._ending in CLIP_ENDINGS else (1, 3, 4)
        if 0 in shape or shape[2] not in allowed:
            raise InputError(f"frames for {self._path.name} must be {wanted} with C in {allowed}, got {frames.shape}")
        if self._shape and shape != self._shape:
            raise InputError(
                f"all frames of {self._path.name} must have the first frame's shape {self._shape}, got {shape}"
            )
        if len(clip):
            self._shape = shape
        return clip

    def _open(self, partial: Path, height: int, width: int, channels: int) -> _Sink:
        match self._ending:
            case "":
                return _FolderSink(partial)
            case ".npy":
                return _ArraySink(partial, (height, width, channels))
        assert self._frame_rate is not None  # __init__ has checked this
        return VideoWriter(partial, self._path, self._frame_rate, height, width, self._sample_aspect_ratio)

    def _is_gray_video(self) -> bool:
        return self._shape[2] == 1 and isinstance(self._sink, VideoWriter)


class _FolderSink:
    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder, self._written = folder, 0

    def write(self, pixels: NDArray[np.uint8]) -> None:
        write_picture(self._folder / f"frame_{self._written:05d}.png", pixels)
        self._written += 1

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


class _ArraySink:
    """A `.npy` file of unknown length. Its header has a fixed size and is written again at the end."""

    def __init__(self, file: Path, shape: tuple[int, ...]) -> None:
        self._file = file.open("xb")
        self._shape, self._written = shape, 0
        self._file.write(self._header())

    def write(self, pixels: NDArray[np.uint8]) -> None:
        self._file.write(np.ascontiguousarray(pixels).data)
        self._written += 1

    def close(self) -> None:
        self._file.seek(0)
        self._file.write(self._header())
        self._file.close()

    def abort(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()

    def _header(self) -> bytes:
        text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {(self._written, *self._shape)}, }}"
        lead = b"\x93NUMPY\x01\x00" + (_NPY_HEADER_BYTES - 10).to_bytes(2, "little")
        return lead + text.ljust(_NPY_HEADER_BYTES - 11).encode("ascii") + b"\n"


def _check_folder(path: Path) -> None:
    """Refuse to overwrite a folder that holds anything except frames of a clip, because its content is deleted."""
    if path.is_dir():
        with translated_errors(path):
            other = next((e for e in folder_entries(path) if not re.fullmatch(r"frame_\d{5,}\.png", e.name)), None)
        if other is not None:
            raise OutputError(f"{path} holds {other.name}, which LatentRT did not write: choose another folder")
