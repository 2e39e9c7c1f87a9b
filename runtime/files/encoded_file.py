"""Encoding a picture or a clip to a latents file."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...tiling.argument_names import argument
from ...tiling.public_place import shown_in
from ..arrays.posterior import DiagonalGaussian
from ..arrays.ran import Ran
from ..autoencoders.autoencoder import Autoencoder
from ..autoencoders.clip_calls import ClipCalls
from ..errors import InputError, OutputError
from ..media.alpha import WHITE, Background, background_colour
from ..media.clips.clip_chunks import ClipChunks
from ..media.clips.frame_colours import check_matrix
from ..media.encode_record import EncodeRecord, Source
from ..media.latents_file import LatentsFile, write_latents
from ..media.named_origin import COMFYUI
from ..system.outputs.partial_output import output_ending, require_folder
from .destination import check_replaceable
from .encode_jobs import settings_of
from .formed_latents import formed_latents, origin_to_write
from .named_seed import generator_for
from .output_limits import check_latents_space
from .progress import FileProgress, counting
from .sources import is_array, read_sample

__all__ = ["EncodedFile", "check_stream", "encode_file"]


@shown_in("latentrt.runtime")
@dataclass(frozen=True, eq=False)
class EncodedFile:
    """A latents file that `encode_file` wrote.

    Attributes:
        content: the content of the file.
        ran: how the encoder ran.
        seconds: the time for the file, from reading to writing.
    """

    content: LatentsFile
    ran: Ran
    seconds: float

    @property
    def latents(self) -> NDArray[Any]:
        """The latents, float32 (B, C, h, w) or (B, C, t, h, w)."""
        return self.content.latents


@shown_in("latentrt.runtime")
def encode_file(
    vae: Autoencoder,
    source: str | Path,
    output: str | Path,
    *,
    seed: int | None = None,
    origin: str | None = None,
    scaled: bool = False,
    stream: bool = False,
    memory: int | str | None = None,
    exact: bool = False,
    overwrite: bool = False,
    check: Callable[[], None] | None = None,
    progress: FileProgress | None = None,
    background: Background = WHITE,
    matrix: str | None = None,
    max_pixels: int | None = None,
    check_range: bool = True,
) -> EncodedFile:
    """Encode a picture or a clip to a latents file.

    The file also stores the original size, the frame rate, the sample aspect ratio, the source and the settings.
    Decoding restores the size, the rate and the ratio. A rerun uses the source and the settings to recognise the file.

    Args:
        vae: the model.
        source: the picture, clip or `.npy` array.
        output: the latents file, which ends in .safetensors, or in .latent for ComfyUI.
        seed: the seed of a sample from the posterior. None takes the mode (the mean). The noise also depends on the
            source's file name (see `named_seed.generator_for`), so it differs between the files of a folder.
        origin: the origin whose form the latents get: "model", "diffusion", "comfyui", "diffusers" or a pipeline class
            of diffusers (see `decode_file`). None: model latents. For "comfyui" the output may end in .latent, which is
            the ending that ComfyUI's LoadLatent node reads.
        scaled: another spelling of the origin "diffusion".
        stream: whether to read and encode a clip in chunks, so that memory does not depend on its length.
        memory: see `Autoencoder.encode`.
        exact: see `Autoencoder.encode`.
        overwrite: whether to replace an existing file.
        check: called between the steps. It may raise to stop the work.
        progress: called with the progress in tiles or in frames of a stream. The total is 0 if the file does not say
            how many frames it has.
        background: the colour behind transparent pixels if the model takes no alpha: a name, "#rrggbb" or three
            integers.
        matrix: "bt709" or "bt601", for a video that names no YUV matrix or the wrong one.
        max_pixels: the most pixels of a picture. None allows 179 million, and more, up to 2**30, if reading them fits
            into the available memory.
        check_range: whether a `.npy` sample is refused if its values are those of a picture in 0..255 or 0..1.

    Raises:
        MediaError: the source cannot be read.
        InputError: the source or an argument does not fit the model.
        OutputError: the output exists or cannot be written.
    """
    started = time.perf_counter()
    source, output = Path(source), Path(output)
    wanted = origin_to_write(vae, origin, scaled=scaled)
    if output_ending(output) not in (".safetensors", *((".latent",) if wanted.name == COMFYUI else ())):
        for_comfyui = (
            f", or in .latent with {argument('origin', COMFYUI)}" if output_ending(output) == ".latent" else ""
        )
        raise OutputError(f"cannot write {output}: latents files end in .safetensors{for_comfyui}")
    check_replaceable(output, overwrite)
    require_folder(output)
    check = check or (lambda: None)
    behind = background_colour(background)
    check_matrix(matrix)
    clips = vae.clip_calls
    check_stream(vae, stream)
    # The source is hashed before it is read, so that a later change of the file is recognised.
    settings = settings_of(vae, seed=seed, origin=wanted, background=behind, matrix=matrix)
    record = EncodeRecord(Source.of(source), settings)
    reading: dict[str, Any] = {"background": behind, "matrix": matrix, "max_pixels": max_pixels}
    budget = _Budget(memory, exact)
    if clips is not None and (stream or (memory is not None and not is_array(source))):
        encoded = _encode_clip(vae, clips, source, output, check, progress, budget, reading, stream=stream)
    else:
        encoded = _encode_whole(vae, source, output, check, progress, budget, reading | {"check_range": check_range})
    check()
    posterior = encoded.posterior
    latents = posterior.mode() if seed is None else posterior.sample(generator_for(seed, source))
    frames, height, width = encoded.size if vae.video else (None, *encoded.size)
    content = LatentsFile(
        formed_latents(vae, latents, source, wanted),
        family=vae.family,
        height=height,
        width=width,
        frames=frames,
        frame_rate=encoded.frame_rate,
        scaled=wanted.form.space == "diffusion",
        sample_aspect_ratio=encoded.sample_aspect_ratio,
        record=record,
        origin=wanted.name,
    )
    write_latents(output, content, overwrite=overwrite)
    return EncodedFile(content, encoded.ran, time.perf_counter() - started)


def check_stream(vae: Autoencoder, stream: bool) -> None:
    """Refuse `stream` of an image model.

    Raises:
        InputError: see above.
    """
    if stream and vae.clip_calls is None:
        raise InputError(f"{argument('stream')}: only video models stream, and this is {vae.family}")


@dataclass(frozen=True, eq=False)
class _Encoded:
    """The posterior of a source, its original size (H, W) or (T, H, W), and how the encoder ran."""

    posterior: DiagonalGaussian
    size: tuple[int, ...]
    frame_rate: Fraction | None
    sample_aspect_ratio: Fraction | None
    ran: Ran


@dataclass(frozen=True)
class _Budget:
    """What `Autoencoder.encode` takes as `memory` and `exact`."""

    memory: int | str | None
    exact: bool


def _encode_whole(
    vae: Autoencoder,
    source: Path,
    output: Path,
    check: Callable[[], None],
    progress: FileProgress | None,
    budget: _Budget,
    reading: dict[str, Any],
) -> _Encoded:
    read = read_sample(source, vae, check=check, **reading)
    check()
    check_latents_space(output, vae, read.sample.shape[2:])
    options: dict[str, Any] = {"memory": budget.memory, "exact": budget.exact}
    encoded = vae.encode(read.sample, check_range=False, progress=counting("tiles", progress), **options)
    assert encoded.ran is not None
    return _Encoded(encoded.latent_dist, read.size, read.frame_rate, read.sample_aspect_ratio, encoded.ran)


def _encode_clip(
    vae: Autoencoder,
    clips: ClipCalls,
    source: Path,
    output: Path,
    check: Callable[[], None],
    progress: FileProgress | None,
    budget: _Budget,
    reading: dict[str, Any],
    *,
    stream: bool,
) -> _Encoded:
    """Encode a clip in the way that fits the budget: chunk by chunk if it streams, else as a whole."""
    chunks = ClipChunks(source, vae.config.in_channels, vae.grid, check, **reading)
    strategy = clips.clip_strategy(chunks.padded_size, budget.memory, stream=stream, exact=budget.exact)
    if not strategy.streaming:
        return _encode_whole(vae, source, output, check, progress, budget, reading)
    moments: list[NDArray[np.float32]] = []
    for part in clips.encode_chunks(chunks, strategy):
        check()
        if not moments and chunks.frame_count:
            size = (chunks.frame_count, chunks.height, chunks.width)
            check_latents_space(output, vae, vae.grid.padded_size(size))
        moments.append(part)
        if progress is not None:
            progress("frames", chunks.frames, chunks.frame_count or 0)
    size = (chunks.frames, chunks.height, chunks.width)
    ran = clips.chunks_ran(vae.grid.padded_size(size), strategy)
    posterior = DiagonalGaussian(np.concatenate(moments, axis=2))
    return _Encoded(posterior, size, chunks.frame_rate, chunks.sample_aspect_ratio, ran)
