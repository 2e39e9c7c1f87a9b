"""Encoding files to latents files and decoding them back: what the command line does, as two functions."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .autoencoder import Autoencoder
from .autoencoder_kl_ltx2 import AutoencoderKLLTX2Video
from .clip_chunks import ClipChunks
from .clip_writer import write_clip
from .errors import InputError, OutputError
from .extras import require
from .latents_file import LatentsFile, read_latents, write_latents
from .npy_file import create_npy
from .partial_output import partial_output, translated_errors
from .pictures import PICTURE_ENDINGS, write_picture
from .posterior import DiagonalGaussian
from .sources import read_sample

__all__ = ["DEFAULT_FRAME_RATE", "STANDARD_OUTPUT", "decode_file", "encode_file"]

STANDARD_OUTPUT = Path("-")
DEFAULT_FRAME_RATE = Fraction(24)  # where neither the latents file nor the user gives one: what LTX-2 generates at
Progress = Callable[[str, int, int], None]
"""Called with what is counted ("tiles", "frames" or "pictures"), how many are done, and how many there are; may
raise, to stop."""


def encode_file(
    vae: Autoencoder,
    source: Path,
    output: Path,
    *,
    seed: int | None = None,
    scaled: bool = False,
    stream: bool = False,
    memory: int | str | None = None,
    check: Callable[[], None] | None = None,
    progress: Progress | None = None,
) -> LatentsFile:
    """Encode one picture or clip to a latents file.

    `seed`: draw a sample with it; None takes the mode (the mean). `scaled`: write diffusion latents instead of the
    model's own. The original size and frame rate go into the file, so that decoding restores them. `stream`: a clip
    chunk by chunk, in memory that its length does not change. `memory`: as `Autoencoder.encode` takes it. `check` is
    called between the steps and may raise, to stop. `progress` is told the tiles, where there are any, or a stream's
    frames (of 0 in all where the file does not tell how many there are).

    Raises:
        MediaError, InputError: the source cannot be used. OutputError: the output exists or cannot be written.
    """
    if output.suffix.lower() != ".safetensors":
        raise OutputError(f"cannot write {output}: latents files end in .safetensors")
    if output.exists():
        raise OutputError(f"{output} exists already: give another name, or delete it first")
    _require_parent(output)
    check = check or (lambda: None)
    if stream:
        posterior, size, frame_rate = _encode_stream(vae, source, check, progress)
    else:
        posterior, size, frame_rate = _encode_whole(vae, source, check, progress, memory)
    check()
    latents = posterior.mode() if seed is None else posterior.sample(seed)
    frames, height, width = size if vae.video else (None, *size)
    content = LatentsFile(
        vae.scale_latents(latents) if scaled else latents,
        family=vae.family,
        height=height,
        width=width,
        frames=frames,
        frame_rate=frame_rate,
        scaled=scaled,
    )
    write_latents(output, content, overwrite=False)
    return content


_Encoded = tuple[DiagonalGaussian, tuple[int, ...], Fraction | None]


def _encode_whole(
    vae: Autoencoder, source: Path, check: Callable[[], None], progress: Progress | None, memory: int | str | None
) -> _Encoded:
    read = read_sample(source, vae, check=check)
    check()
    encoded = vae.encode(read.sample, memory=memory, progress=_counting("tiles", progress)).latent_dist
    return encoded, read.size, read.frame_rate


def _encode_stream(vae: Autoencoder, source: Path, check: Callable[[], None], progress: Progress | None) -> _Encoded:
    if not isinstance(vae, AutoencoderKLLTX2Video):
        raise InputError(f"stream: only video models stream, and this is {vae.family}")
    chunks = ClipChunks(source, vae.config.in_channels, vae.grid, check)
    moments = []
    for part in vae.encode_stream(chunks):
        check()
        moments.append(part)
        if progress is not None:
            progress("frames", chunks.frames, chunks.frame_count or 0)
    size = (chunks.frames, chunks.height, chunks.width)
    return DiagonalGaussian(np.concatenate(moments, axis=2)), size, chunks.frame_rate


def decode_file(
    vae: Autoencoder,
    source: Path,
    output: Path,
    *,
    scaled: bool = False,
    frame_rate: Fraction | None = None,
    temb: float | None = None,
    seed: int | None = None,
    memory: int | str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Decode a latents file to what the ending of `output` says; returns what was written, for a report.

    Images: `.png`, `.jpg`, `.webp`, or a folder for a batch. Clips: `.mp4`, `.webm`, `.gif`, ..., or a folder of PNG
    frames, written as its frames are decoded; or `STANDARD_OUTPUT`: raw frames, uint8 (H, W, C). Both: `.npy`, the
    float32 sample itself, (B, C, ...), not clipped, mapped from the disk while it is made. `scaled`: the file holds
    diffusion latents (also taken from the file's own metadata). `temb`, `seed`: for decoders that take them.
    `memory`: as `Autoencoder.decode` takes it.

    Raises:
        MediaError, InputError: the latents cannot be used. OutputError: the output exists or cannot be written.
    """
    raw = output == STANDARD_OUTPUT
    if not raw and output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise OutputError(f"{output} exists already: give another name, or delete it first")
    content = read_latents(source)
    _check_origin(vae, content, source, scaled)
    latents = np.asarray(content.latents, np.float32)
    if latents.ndim != (5 if vae.video else 4):
        raise InputError(f"{source} holds latents of shape {latents.shape}, which {vae.family} does not take")
    if content.scaled or scaled:
        latents = vae.unscale_latents(latents)
    if seed is not None and not getattr(vae.config, "noise_stacks", ()):
        raise InputError("seed: this decoder injects no noise; leave it out")
    timesteps = None if temb is None else np.full(latents.shape[0], temb, np.float32)
    if raw:
        _check_raw(vae, latents.shape[0])
    else:
        _require_parent(output)
        _check_ending(vae, latents.shape[0], output)
    crop = _original_size(vae, content, latents)
    rate = frame_rate or content.frame_rate or DEFAULT_FRAME_RATE

    job = _Decoding(vae, latents, crop, progress, {"temb": timesteps, "rng": seed}, memory)
    _write(job, output, rate)
    is_clip = vae.video and output.suffix.lower() != ".npy"
    return {"output": str(output), "shape": list(job.shape), **({"frame_rate": str(rate)} if is_clip else {})}


@dataclass(frozen=True, eq=False)
class _Decoding:
    """Checked latents on their way to a file."""

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

    def decode(self, **options: Any) -> Any:
        """The sample, or what `options` make of it."""
        tiles = _counting("tiles", self.progress)
        return self.vae.decode(
            self.latents, crop=self.crop, progress=tiles, memory=self.memory, **self.conditions, **options
        ).sample

    def each_frame(self) -> Iterator[NDArray[np.uint8]]:
        """The pixels of a clip, frame by frame, as soon as they are finished: uint8 (H, W, C)."""
        assert isinstance(self.vae, AutoencoderKLLTX2Video)
        options: dict[str, Any] = {"crop": self.crop, "output": "uint8", "memory": self.memory}
        if not self.vae.streaming:  # which counts the very frames that are counted when they are written
            options["progress"] = _counting("tiles", self.progress)
        for group in self.vae.decode_frames(self.latents, **options, **self.conditions):
            yield from group[0]

    def count(self, what: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(what, done, total)


def _write(job: _Decoding, output: Path, rate: Fraction) -> None:
    """Decode and write, in this order: first the output is opened, so that what cannot be written fails at once."""
    ending = output.suffix.lower()
    if output == STANDARD_OUTPUT:
        for written, frame in enumerate(job.each_frame(), 1):
            sys.stdout.buffer.write(np.ascontiguousarray(frame).data)
            job.count("frames", written, job.shape[2])
        sys.stdout.buffer.flush()
    elif ending == ".npy":
        with partial_output(output) as file, translated_errors(output):
            sample = create_npy(file, job.shape)
            job.decode(out=sample)
            del sample  # unmaps the file
    elif job.vae.video:
        with write_clip(output, rate) as writer:
            for written, frame in enumerate(job.each_frame(), 1):
                writer.write(frame)
                job.count("frames", written, job.shape[2])
    elif ending in PICTURE_ENDINGS:
        write_picture(output, job.decode(output="uint8")[0], overwrite=False)
    else:
        with partial_output(output) as folder, translated_errors(output):
            folder.mkdir()
            for index, pixels in enumerate(job.decode(output="uint8")):
                write_picture(folder / f"{index:05d}.png", pixels)
                job.count("pictures", index + 1, job.shape[0])


def _counting(what: str, progress: Progress | None) -> Callable[[int, int], None] | None:
    return None if progress is None else partial(progress, what)


def _require_parent(output: Path) -> None:
    if not output.absolute().parent.is_dir():
        raise OutputError(f"cannot write {output}: the folder {output.parent} does not exist, so make it first")


def _check_origin(vae: Autoencoder, content: LatentsFile, source: Path, scaled: bool) -> None:
    if content.family is not None and content.family != vae.family:
        raise InputError(
            f"{source} holds latents of {content.family} and the bundle is {vae.family}: give the other one"
        )
    if scaled and content.scaled is False:
        raise InputError(f"{source} says that it holds model latents, not diffusion latents: leave --scaled out")


def _check_raw(vae: Autoencoder, batch: int) -> None:
    if not vae.video or batch != 1:
        raise InputError("-o - writes the raw frames of one clip: give a file or a folder name for anything else")


def _check_ending(vae: Autoencoder, batch: int, output: Path) -> None:
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


def _original_size(vae: Autoencoder, content: LatentsFile, latents: NDArray[Any]) -> tuple[int, ...] | None:
    """The size before padding, where the file tells it and it fits these latents."""
    if content.height is None or content.width is None or (vae.video and content.frames is None):
        return None
    size = (
        (content.height, content.width) if content.frames is None else (content.frames, content.height, content.width)
    )
    whole = vae.grid.sample_size(latents.shape[2:])
    if len(size) != len(whole) or any(part > length for part, length in zip(size, whole, strict=True)):
        raise InputError(
            f"the latents file says the original was {size}, but its latents decode to {whole}: it is damaged"
        )
    return size
