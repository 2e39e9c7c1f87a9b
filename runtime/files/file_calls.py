"""Encoding files to latents files and decoding them back: what the command line does, as two functions."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.posterior import DiagonalGaussian
from ..arrays.ran import Ran
from ..autoencoders.autoencoder import Autoencoder
from ..autoencoders.autoencoder_kl_ltx2 import AutoencoderKLLTX2Video
from ..errors import InputError, OutputError
from ..media.alpha import WHITE, Background, background_colour
from ..media.clips.clip_chunks import ClipChunks
from ..media.latents_file import LatentsFile, read_latents, write_latents
from ..media.latents_origin import Origin, Source
from ..system.partial_output import require_folder
from .decoded_file import STANDARD_OUTPUT, DecodedFile, Progress, check_destination, check_replaceable, counting
from .encode_jobs import settings_of
from .given_latents import model_latents
from .named_seed import generator_for
from .original_size import original_size
from .sources import is_array, read_sample

__all__ = ["DEFAULT_FRAME_RATE", "EncodedFile", "decode_file", "encode_file"]

DEFAULT_FRAME_RATE = Fraction(24)  # where neither the latents file nor the user gives one: what LTX-2 generates at


@dataclass(frozen=True, eq=False)
class EncodedFile:
    """What `encode_file` wrote. `ran`: how the encoder ran. `seconds`: of the whole file, from reading to writing."""

    content: LatentsFile
    ran: Ran
    seconds: float

    @property
    def latents(self) -> NDArray[Any]:
        return self.content.latents


def encode_file(
    vae: Autoencoder,
    source: str | Path,
    output: str | Path,
    *,
    seed: int | None = None,
    scaled: bool = False,
    stream: bool = False,
    memory: int | str | None = None,
    overwrite: bool = False,
    check: Callable[[], None] | None = None,
    progress: Progress | None = None,
    background: Background = WHITE,
    matrix: str | None = None,
) -> EncodedFile:
    """Encode one picture or clip to a latents file.

    `seed`: draw a sample; None takes the mode (the mean). The noise depends on the seed and the source's file name
    (`named_seed.generator_for`), so files of one folder get noise of their own. `scaled`: write diffusion latents
    instead of model latents. The original size, the frame rate, the sample aspect ratio, the source and the settings go
    into the file, so that decoding restores what it can and a rerun knows the file. `stream`: a clip chunk by chunk, in
    memory that its length does not change. `memory`: as `Autoencoder.encode` takes it. `overwrite`: replace a file that
    exists. `check` is called between the steps and may raise, to stop. `progress` gets the tiles, if there are any, or
    a stream's frames (of 0 in all if the file does not say how many there are). `background`: the colour behind
    transparent pixels, where the model takes no alpha: a name, "#rrggbb" or three integers. `matrix`: "bt709" or
    "bt601" for a video that does not name its YUV matrix, or a wrong one.

    Raises:
        MediaError, InputError: the source cannot be used. OutputError: the output exists or cannot be written.
    """
    started = time.perf_counter()
    source, output = Path(source), Path(output)
    if output.suffix.lower() != ".safetensors":
        raise OutputError(f"cannot write {output}: latents files end in .safetensors")
    check_replaceable(output, overwrite)
    require_folder(output)
    check = check or (lambda: None)
    behind = background_colour(background)
    if stream and not isinstance(vae, AutoencoderKLLTX2Video):
        raise InputError(f"stream: only video models stream, and this is {vae.family}")
    origin = Origin(
        Source.of(source), settings_of(vae, seed=seed, scaled=scaled, background=behind, matrix=matrix)
    )  # of what is read from here on
    if isinstance(vae, AutoencoderKLLTX2Video) and (stream or (memory is not None and not is_array(source))):
        encoded = _encode_clip(vae, source, check, progress, memory, behind, matrix, stream=stream)
    else:
        encoded = _encode_whole(vae, source, check, progress, memory, behind, matrix)
    check()
    posterior = encoded.posterior
    latents = posterior.mode() if seed is None else posterior.sample(generator_for(seed, source))
    frames, height, width = encoded.size if vae.video else (None, *encoded.size)
    content = LatentsFile(
        vae.scale_latents(latents) if scaled else latents,
        family=vae.family,
        height=height,
        width=width,
        frames=frames,
        frame_rate=encoded.frame_rate,
        scaled=scaled,
        sample_aspect_ratio=encoded.sample_aspect_ratio,
        origin=origin,
    )
    write_latents(output, content, overwrite=overwrite)
    return EncodedFile(content, encoded.ran, time.perf_counter() - started)


@dataclass(frozen=True, eq=False)
class _Encoded:
    posterior: DiagonalGaussian
    size: tuple[int, ...]
    frame_rate: Fraction | None
    sample_aspect_ratio: Fraction | None
    ran: Ran


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
    encoded = vae.encode(read.sample, memory=memory, progress=counting("tiles", progress))
    assert encoded.ran is not None
    return _Encoded(encoded.latent_dist, read.size, read.frame_rate, read.sample_aspect_ratio, encoded.ran)


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
    ran = vae.chunks_ran(vae.grid.padded_size(size), strategy)
    posterior = DiagonalGaussian(np.concatenate(moments, axis=2))
    return _Encoded(posterior, size, chunks.frame_rate, chunks.sample_aspect_ratio, ran)


def decode_file(
    vae: Autoencoder,
    source: str | Path,
    output: str | Path,
    *,
    scaled: bool = False,
    frame_rate: Fraction | None = None,
    temb: float | None = None,
    seed: int | None = None,
    memory: int | str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Decode a latents file to what the ending of `output` says; returns what was written and how, for a report.

    Images: `.png`, `.jpg`, `.webp`, or a folder for a batch. Clips: `.mp4`, `.webm`, `.gif`, ..., or a folder of PNG
    frames, written as its frames are decoded; or `STANDARD_OUTPUT`: raw frames, uint8 (H, W, C). Both: `.npy`, the
    float32 sample itself, (B, C, ...), not clipped, mapped from the disk while it is made.

    `scaled`: the file holds diffusion latents, as the pipelines of Stable Diffusion, SDXL, SD3 and FLUX.1 give them
    with `output_type="latent"`. Without it the file's own metadata decides, and a file without any holds model latents,
    as the pipelines of LTX-2 and FLUX.2 Klein give them. A file without metadata whose statistics are those of the
    other space is decoded as asked, with a warning.

    `temb`: for timestep-conditioned decoders. `seed`: for decoders that inject noise, which depends on the seed and the
    latents file's name (`named_seed.generator_for`). `memory`: as `Autoencoder.decode` takes it. `overwrite`: replace
    an output that exists; of folders only those that hold nothing but frames or pictures written here.

    Raises:
        MediaError, InputError: the latents cannot be used. OutputError: the output exists or cannot be written.
    """
    started = time.perf_counter()
    source, output = Path(source), Path(output)
    if output != STANDARD_OUTPUT:
        check_replaceable(output, overwrite, source)
    content = read_latents(source)
    latents = model_latents(vae, content, source, scaled=scaled)
    if seed is not None and not getattr(vae.config, "noise_stacks", ()):
        raise InputError("seed: this decoder injects no noise; leave it out")
    noise = None if seed is None else generator_for(seed, source)
    timesteps = None if temb is None else np.full(latents.shape[0], temb, np.float32)
    check_destination(vae, latents.shape[0], output)
    crop = original_size(content, vae.grid, latents.shape[2:], source)
    rate = frame_rate or content.frame_rate or DEFAULT_FRAME_RATE

    decoded = DecodedFile(vae, latents, crop, progress, {"temb": timesteps, "rng": noise}, memory)
    ran = decoded.write(output, rate, sample_aspect_ratio=content.sample_aspect_ratio, overwrite=overwrite)
    is_clip = vae.video and output.suffix.lower() != ".npy"
    return {
        "output": str(output),
        "shape": list(decoded.shape),
        **({"frame_rate": str(rate)} if is_clip else {}),
        **ran.to_json(),
        "seconds": round(time.perf_counter() - started, 3),
    }
