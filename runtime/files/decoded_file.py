"""Decoding a latents file to a picture, a clip, an array, a folder, or standard output."""

import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...tiling.argument_names import argument
from ...tiling.public_place import shown_in
from ..arrays.ran import Ran
from ..autoencoders.autoencoder import Autoencoder
from ..calls.conditions import conditions_for
from ..errors import InputError
from ..media.clips.clip_reader import CLIP_ENDINGS
from ..media.clips.clip_writer import write_clip
from ..media.clips.video_writer import VideoWriter
from ..media.latents_file import read_latents
from ..media.pictures.picture_file import PICTURE_ENDINGS, write_picture
from ..system.npy_file import create_npy
from ..system.outputs.partial_output import output_ending, partial_output, translated_errors
from .destination import STANDARD_OUTPUT, check_destination, check_replaceable
from .given_latents import GivenOrigin, model_latents
from .named_seed import check_seed, generator_for
from .original_size import original_size
from .output_limits import check_output_limits
from .progress import FileProgress, counting

__all__ = ["DEFAULT_FRAME_RATE", "DecodedFile", "check_conditions", "decode_file"]

_LOG = logging.getLogger(__name__)

DEFAULT_FRAME_RATE = Fraction(24)
"""Frames per second of a decoded clip if neither the user nor the latents file gives a rate: LTX-2 generates at it."""


@shown_in("latentrt.runtime")
def decode_file(
    vae: Autoencoder,
    source: str | Path,
    output: str | Path,
    *,
    origin: str | None = None,
    scaled: bool = False,
    frame_rate: Fraction | None = None,
    temb: float | None = None,
    seed: int | None = None,
    memory: int | str | None = None,
    exact: bool = False,
    overwrite: bool = False,
    progress: FileProgress | None = None,
    key: str | None = None,
    size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Decode a latents file. The ending of `output` chooses the format:

    - Images: `.png`, `.jpg`, `.webp`, or a folder of PNG files, one for each picture of a batch.
    - Clips: `.mp4`, `.webm`, `.gif`, ..., or a folder of PNG frames. Frames are written as soon as they are decoded. A
      clip of a single frame can also be a picture.
    - A folder is a name without an ending, a name that ends in a slash, or an existing folder.
    - Clips to `STANDARD_OUTPUT`: raw frames, uint8 (H, W, C).
    - Both: `.npy` for the float32 sample (B, C, ...), not clipped. The file is memory-mapped while it is written.

    Args:
        vae: the model.
        source: the latents file.
        output: the output.
        origin: where the latents come from: "model", "diffusion", "comfyui", "diffusers" or a pipeline class of
            diffusers, for its `output_type="latent"`. None: the file's metadata says it. A file without metadata then
            holds model latents, or tokens of a FLUX pipeline, and one line of the log says so. The table in
            docs/reference/origins.md has the form of the latents of each origin. A warning is logged if the statistics
            of a file without metadata are those of the other space.
        scaled: another spelling of the origin "diffusion".
        frame_rate: frames per second of the clip. None takes the rate in the file, or else `DEFAULT_FRAME_RATE`.
        temb: the timestep, for timestep-conditioned decoders.
        seed: the seed of the noise, for decoders that inject noise. The noise also depends on the name of the latents
            file (see `named_seed.generator_for`).
        memory: see `Autoencoder.decode`.
        exact: see `Autoencoder.decode`.
        overwrite: whether to replace an existing output. A folder is replaced only if it holds nothing except frames or
            pictures that LatentRT wrote.
        progress: called with the progress in tiles, frames or pictures.
        key: the name of the tensor in the file. None: see `read_latents`.
        size: the height and width in pixels that a FLUX pipeline was asked for, if the file holds its packed latents
            and does not say the size.

    Returns:
        A report as JSON values: the output, its shape, and how the decoder ran.

    Raises:
        MediaError: the latents file cannot be read, or the installed FFmpeg has no encoder for the output.
        InputError: the latents do not fit the model, or an argument does not fit the decoder.
        OutputError: the output exists or cannot be written.
    """
    started = time.perf_counter()
    source, ending, given = Path(source), output_ending(output), GivenOrigin(origin, scaled, size)
    if Path(output) != STANDARD_OUTPUT:
        check_replaceable(output, overwrite, source)
    content = read_latents(source, key=key)
    latents = model_latents(vae, content, source, given)
    check_conditions(vae, temb, seed)
    noise = None if seed is None else generator_for(seed, source)
    timesteps = None if temb is None else np.full(latents.shape[0], temb, np.float32)
    crop = original_size(content, vae.grid, latents.shape[2:], source)
    rate = frame_rate or content.frame_rate or DEFAULT_FRAME_RATE
    decoded = DecodedFile(vae, latents, crop, progress, {"temb": timesteps, "rng": noise}, memory, exact)
    check_destination(vae, latents.shape[0], output, decoded.shape[2] if vae.video else None)
    if Path(output) != STANDARD_OUTPUT:
        check_output_limits(Path(output), ending, decoded.shape)

    ran = decoded.write(output, rate, sample_aspect_ratio=content.sample_aspect_ratio, overwrite=overwrite)
    is_clip = vae.video and ending not in (".npy", *PICTURE_ENDINGS)
    return {
        "output": str(Path(output)),
        "shape": list(decoded.shape),
        **({"frame_rate": str(rate)} if is_clip else {}),
        **ran.to_json(),
        "seconds": round(time.perf_counter() - started, 3),
    }


def check_conditions(vae: Autoencoder, temb: float | None, seed: int | None) -> None:
    """Refuse a timestep or a seed that the decoder does not take, or that it lacks.

    Args:
        vae: the decoding model.
        temb: see `decode_file`.
        seed: see `decode_file`.

    Raises:
        InputError: see above.
    """
    check_seed(seed)
    if seed is not None and not vae.config.noise_stacks:
        raise InputError(f"{argument('seed')}: this decoder injects no noise; leave it out")
    conditions_for(vae.config, np.empty((1, 1, 1, 1), np.float32), temb, 0 if seed is None else seed)


@dataclass(frozen=True, eq=False)
class DecodedFile:
    """Latents that are decoded to a file.

    Attributes:
        vae: the model.
        latents: model latents, float32 (B, C, h, w) or (B, C, t, h, w), checked.
        crop: the size (H, W) or (T, H, W) to crop the sample to. None keeps its size.
        progress: called with the progress in tiles, frames or pictures.
        conditions: the decoder's other inputs: "temb" and "rng".
        memory: see `Autoencoder.decode`.
        exact: see `Autoencoder.decode`.
    """

    vae: Autoencoder
    latents: NDArray[np.float32]
    crop: tuple[int, ...] | None
    progress: FileProgress | None
    conditions: dict[str, Any]
    memory: int | str | None
    exact: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the sample, (B, C, ...)."""
        size = self.vae.grid.cropped_size(self.vae.grid.sample_size(self.latents.shape[2:]), self.crop)
        return (self.latents.shape[0], self.vae.config.out_channels, *size)

    def write(
        self,
        output: str | Path,
        rate: Fraction,
        *,
        sample_aspect_ratio: Fraction | None = None,
        overwrite: bool = False,
    ) -> Ran:
        """Decode the latents and write the output.

        The output is opened before the decoder runs, so an output that cannot be written fails at once.

        Args:
            output: the output.
            rate: frames per second of a clip.
            sample_aspect_ratio: a pixel's width over its height, which only video files store.
            overwrite: whether to replace an existing output.

        Returns:
            How the decoder ran.
        """
        ending, folder_name, output = output_ending(output), f"{output}/", Path(output)
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
        elif self.vae.video and ending in PICTURE_ENDINGS:
            (frame,) = self._each_frame(ran)
            write_picture(output, frame, overwrite=overwrite)
        elif self.vae.video:
            _, channels, _, frame_height, frame_width = self.shape
            writer_bytes = VideoWriter.held_bytes(frame_height, frame_width) if ending else 0
            target = output if ending else folder_name
            with write_clip(target, rate, sample_aspect_ratio=sample_aspect_ratio, overwrite=overwrite) as writer:
                writer.begin(frame_height, frame_width, channels)
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
        """Decode in one call, with `options` of `Autoencoder.decode`. How the decoder ran is appended to `ran`."""
        tiles = counting("tiles", self.progress)
        options |= {"memory": self.memory, "exact": self.exact}
        decoded = self.vae.decode(self.latents, crop=self.crop, progress=tiles, **self.conditions, **options)
        assert decoded.ran is not None
        ran.append(decoded.ran)
        return decoded.sample

    def _each_frame(self, ran: list[Ran], writer_bytes: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Decode a clip frame by frame: uint8 (H, W, C). How the decoder runs is appended to `ran`.

        `writer_bytes` is the memory of the writer of the frames, which counts towards the budget.
        """
        clips = self.vae.clip_calls
        assert clips is not None
        options: dict[str, Any] = {"crop": self.crop, "output": "uint8", "memory": self.memory, "on_ran": ran.append}
        options |= {"caller_bytes": writer_bytes, "exact": self.exact}
        if not clips.streaming:  # a stream reports frames, which are counted when they are written
            options["progress"] = counting("tiles", self.progress)
        for group in clips.decode_frames(self.latents, **options, **self.conditions):
            yield from group[0]

    def _count(self, what: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(what, done, total)
