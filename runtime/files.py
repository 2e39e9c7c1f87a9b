"""Encoding files to latents files and decoding them back: what the command line does, as two functions."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .alpha import WHITE, Background, background_colour
from .autoencoder import Autoencoder
from .autoencoder_kl_ltx2 import AutoencoderKLLTX2Video
from .clip_chunks import ClipChunks
from .decoded_file import STANDARD_OUTPUT, DecodedFile, Progress, check_destination, counting
from .errors import InputError, OutputError
from .latents_file import LatentsFile, read_latents, write_latents
from .partial_output import require_folder
from .posterior import DiagonalGaussian
from .sources import is_array, read_sample

__all__ = ["DEFAULT_FRAME_RATE", "decode_file", "encode_file"]

DEFAULT_FRAME_RATE = Fraction(24)  # where neither the latents file nor the user gives one: what LTX-2 generates at


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
    background: Background = WHITE,
    matrix: str | None = None,
) -> LatentsFile:
    """Encode one picture or clip to a latents file.

    `seed`: draw a sample with it; None takes the mode (the mean). `scaled`: write diffusion latents instead of the
    model's own. The original size, frame rate and sample aspect ratio go into the file, so that decoding restores
    them. `stream`: a clip chunk by chunk, in memory that its length does not change. `memory`: as `Autoencoder.encode`
    takes it. `check` is called between the steps and may raise, to stop. `progress` is told the tiles, where there are
    any, or a stream's frames (of 0 in all where the file does not tell how many there are). `background`: the colour
    behind transparent pixels, where the model takes no alpha: a name, "#rrggbb" or three integers. `matrix`: "bt709" or
    "bt601" for a video that does not name its YUV matrix, or a wrong one.

    Raises:
        MediaError, InputError: the source cannot be used. OutputError: the output exists or cannot be written.
    """
    if output.suffix.lower() != ".safetensors":
        raise OutputError(f"cannot write {output}: latents files end in .safetensors")
    if output.exists():
        raise OutputError(f"{output} exists already: give another name, or delete it first")
    require_folder(output)
    check = check or (lambda: None)
    behind = background_colour(background)
    if stream and not isinstance(vae, AutoencoderKLLTX2Video):
        raise InputError(f"stream: only video models stream, and this is {vae.family}")
    if isinstance(vae, AutoencoderKLLTX2Video) and (stream or (memory is not None and not is_array(source))):
        posterior, size, frame_rate, aspect = _encode_clip(
            vae, source, check, progress, memory, behind, matrix, stream=stream
        )
    else:
        posterior, size, frame_rate, aspect = _encode_whole(vae, source, check, progress, memory, behind, matrix)
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
        sample_aspect_ratio=aspect,
    )
    write_latents(output, content, overwrite=False)
    return content


_Encoded = tuple[DiagonalGaussian, tuple[int, ...], Fraction | None, Fraction | None]


def _encode_whole(
    vae: Autoencoder,
    source: Path,
    check: Callable[[], None],
    progress: Progress | None,
    memory: int | str | None,
    background: Background,
    matrix: str | None,
) -> _Encoded:
    read = read_sample(source, vae, check=check, background=background, matrix=matrix)
    check()
    encoded = vae.encode(read.sample, memory=memory, progress=counting("tiles", progress)).latent_dist
    return encoded, read.size, read.frame_rate, read.sample_aspect_ratio


def _encode_clip(
    vae: AutoencoderKLLTX2Video,
    source: Path,
    check: Callable[[], None],
    progress: Progress | None,
    memory: int | str | None,
    background: Background,
    matrix: str | None,
    *,
    stream: bool,
) -> _Encoded:
    """A clip in the way that fits its budget: read chunk by chunk where it streams, else whole."""
    chunks = ClipChunks(source, vae.config.in_channels, vae.grid, check, background=background, matrix=matrix)
    strategy = vae.clip_strategy(chunks.padded_size, memory, stream=stream)
    if not strategy.streaming:
        return _encode_whole(vae, source, check, progress, memory, background, matrix)
    moments = []
    for part in vae.encode_chunks(chunks, strategy):
        check()
        moments.append(part)
        if progress is not None:
            progress("frames", chunks.frames, chunks.frame_count or 0)
    size = (chunks.frames, chunks.height, chunks.width)
    return DiagonalGaussian(np.concatenate(moments, axis=2)), size, chunks.frame_rate, chunks.sample_aspect_ratio


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
    if output != STANDARD_OUTPUT and output.exists() and not (output.is_dir() and not any(output.iterdir())):
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
    check_destination(vae, latents.shape[0], output)
    crop = _original_size(vae, content, latents)
    rate = frame_rate or content.frame_rate or DEFAULT_FRAME_RATE

    decoded = DecodedFile(vae, latents, crop, progress, {"temb": timesteps, "rng": seed}, memory)
    decoded.write(output, rate, content.sample_aspect_ratio)
    is_clip = vae.video and output.suffix.lower() != ".npy"
    return {"output": str(output), "shape": list(decoded.shape), **({"frame_rate": str(rate)} if is_clip else {})}


def _check_origin(vae: Autoencoder, content: LatentsFile, source: Path, scaled: bool) -> None:
    if content.family is not None and content.family != vae.family:
        raise InputError(
            f"{source} holds latents of {content.family} and the bundle is {vae.family}: give the other one"
        )
    if scaled and content.scaled is False:
        raise InputError(f"{source} says that it holds model latents, not diffusion latents: leave --scaled out")


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
