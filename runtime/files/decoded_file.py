"""A decoded sample on its way out: to a picture, a clip, an array, a folder, or standard output."""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.ran import Ran
from ..autoencoders.autoencoder import Autoencoder
from ..errors import InputError, OutputError
from ..extras import require
from ..media.clips.clip_reader import CLIP_ENDINGS
from ..media.clips.clip_writer import write_clip
from ..media.clips.video_writer import VideoWriter
from ..media.pictures.picture_file import PICTURE_ENDINGS, write_picture
from ..system.npy_file import create_npy
from ..system.partial_output import partial_output, require_folder, translated_errors

__all__ = ["STANDARD_OUTPUT", "DecodedFile", "Progress", "check_destination", "check_replaceable", "counting"]

_LOG = logging.getLogger(__name__)

STANDARD_OUTPUT = Path("-")
Progress = Callable[[str, int, int], None]
"""Called with what is counted ("tiles", "frames" or "pictures"), how many are done, and how many there are; may
raise, to stop."""


@dataclass(frozen=True, eq=False)
class DecodedFile:
    """Checked `latents` on their way to a file. `crop`: the size to cut the sample to. `conditions`: the decoder's
    further inputs. `memory`: as `Autoencoder.decode` takes it."""

    vae: Autoencoder
    latents: NDArray[np.float32]
    crop: tuple[int, ...] | None
    progress: Progress | None
    conditions: dict[str, Any]
    memory: int | str | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the sample, (B, C, ...)."""
        size = self.vae.grid.cropped_size(self.vae.grid.sample_size(self.latents.shape[2:]), self.crop)
        return (self.latents.shape[0], self.vae.config.out_channels, *size)

    def write(
        self, output: Path, rate: Fraction, *, sample_aspect_ratio: Fraction | None = None, overwrite: bool = False
    ) -> Ran:
        """Decode and write; gives how the decoder ran. The output is opened before the decoder runs, so that one that
        cannot be written fails at once. `sample_aspect_ratio`: the width of a pixel for its height, which video files
        name."""
        ending = output.suffix.lower()
        ran: list[Ran] = []
        if sample_aspect_ratio is not None and ending not in CLIP_ENDINGS:
            _LOG.warning(
                "%s cannot say that the clip's pixels are not square (%d:%d): stretch it, or write a video file",
                "standard output" if output == STANDARD_OUTPUT else output,
                sample_aspect_ratio.numerator,
                sample_aspect_ratio.denominator,
            )
        if output == STANDARD_OUTPUT:
            for written, frame in enumerate(self._each_frame(ran), 1):
                sys.stdout.buffer.write(np.ascontiguousarray(frame).data)
                self._count("frames", written, self.shape[2])
            sys.stdout.buffer.flush()
        elif ending == ".npy":
            with partial_output(output, overwrite=overwrite) as file, translated_errors(output):
                sample = create_npy(file, self.shape)
                self._decode(ran, out=sample)
                del sample  # unmaps the file
        elif self.vae.video:
            writer_bytes = VideoWriter.held_bytes(*self.shape[3:]) if ending else 0
            with write_clip(output, rate, sample_aspect_ratio=sample_aspect_ratio, overwrite=overwrite) as writer:
                for written, frame in enumerate(self._each_frame(ran, writer_bytes), 1):
                    writer.write(frame)
                    self._count("frames", written, self.shape[2])
        elif ending in PICTURE_ENDINGS:
            write_picture(output, self._decode(ran, output="uint8")[0], overwrite=overwrite)
        else:
            with partial_output(output, overwrite=overwrite) as folder, translated_errors(output):
                folder.mkdir()
                for index, pixels in enumerate(self._decode(ran, output="uint8")):
                    write_picture(folder / f"{index:05d}.png", pixels)
                    self._count("pictures", index + 1, self.shape[0])
        return ran[0]

    def _decode(self, ran: list[Ran], **options: Any) -> Any:
        """The sample, or what `options` make of it. `ran` gets how the decoder ran."""
        tiles = counting("tiles", self.progress)
        decoded = self.vae.decode(
            self.latents, crop=self.crop, progress=tiles, memory=self.memory, **self.conditions, **options
        )
        assert decoded.ran is not None
        ran.append(decoded.ran)
        return decoded.sample

    def _each_frame(self, ran: list[Ran], writer_bytes: int = 0) -> Iterator[NDArray[np.uint8]]:
        """The pixels of a clip, frame by frame, as soon as they are finished: uint8 (H, W, C). `ran` gets how the
        decoder runs. `writer_bytes`: what the writer of the frames holds of the budget."""
        clips = self.vae.clip_calls
        assert clips is not None
        options: dict[str, Any] = {"crop": self.crop, "output": "uint8", "memory": self.memory, "on_ran": ran.append}
        options["memory_beside"] = writer_bytes
        if not clips.streaming:  # which counts the very frames that are counted when they are written
            options["progress"] = counting("tiles", self.progress)
        for group in clips.decode_frames(self.latents, **options, **self.conditions):
            yield from group[0]

    def _count(self, what: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(what, done, total)


def check_replaceable(output: Path, overwrite: bool, source: Path | None = None) -> None:
    """Refuse an output that exists and may not be replaced, before anything runs.

    With `overwrite` a file is replaced, and a folder if it holds nothing but PNG files as they are written here.
    `source`: what is read meanwhile, which is never replaced.

    Raises:
        OutputError: it exists and is to stay.
    """
    if not os.path.lexists(output):
        return
    entries = list(output.iterdir()) if output.is_dir() else None
    if entries == []:
        return
    if not overwrite:
        raise OutputError(f"{output} exists already: give another name, delete it first, or replace it with --force")
    if source is not None and output.exists() and source.exists() and output.samefile(source):
        raise OutputError(f"{output} is the file that is read: give another name")
    if entries is None:
        return
    other = next((one.name for one in entries if not re.fullmatch(r"(frame_)?\d{5,}\.png", one.name)), None)
    if output.suffix or other is not None:
        holds = f" and holds {other}" if other is not None else ""
        raise OutputError(f"{output} is a folder{holds}, which is not replaced: choose another name")


def check_destination(vae: Autoencoder, batch: int, output: Path) -> None:
    """Refuse what cannot hold a decoded batch, before anything runs.

    Raises:
        InputError: several clips or pictures for a file of one. OutputError: an ending that cannot hold them, or no
            folder to write into. MissingExtra: Pillow is not installed.
    """
    if output == STANDARD_OUTPUT:
        if not vae.video or batch != 1:
            raise InputError("-o - writes the raw frames of one clip: give a file or a folder name for anything else")
        return
    require_folder(output)
    ending, channels = output.suffix.lower(), vae.config.out_channels
    if ending == ".npy":
        return
    if channels == 4 and (ending in (".jpg", ".jpeg") or (vae.video and ending)):
        raise OutputError(
            f"{output.name} cannot hold the model's 4 channels: give .npy, a folder name or, of a picture, .png"
        )
    require("PIL.Image", extra="media")
    if vae.video:
        if batch != 1:
            raise InputError(f"the latents hold {batch} clips and {output.name} is one: write .npy, or split them")
        if ending in PICTURE_ENDINGS:
            raise OutputError(f"cannot write a clip as {output.name}: give .mp4, .webm, .gif, .npy, or a folder name")
    elif ending in PICTURE_ENDINGS:
        if batch != 1:
            raise InputError(f"the latents hold {batch} pictures and {output.name} is one: give a folder name, or .npy")
    elif ending:
        raise OutputError(
            f"cannot write a picture as {output.name}: give {', '.join(PICTURE_ENDINGS)}, .npy, or a folder name"
        )


def counting(what: str, progress: Progress | None) -> Callable[[int, int], None] | None:
    """`progress` for what counts one thing."""
    return None if progress is None else partial(progress, what)
