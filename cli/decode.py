"""`latentrt decode`: decode a latents file to a picture, a clip or an array."""

from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..runtime import open_bundle
from ..runtime.errors import InputError
from ..runtime.media.pictures.picture_file import PICTURE_ENDINGS
from .interrupt import Interrupt
from .mistakes import check_latents, check_order
from .options.common import as_json, backend_options, force_option
from .options.tiling import Way, memory_option, way_options
from .options.types import FrameRate
from .progress import calibration_notice, progress_bar
from .run_summary import how_it_ran
from .terminal import echo, emit_json

__all__ = ["decode"]


@click.command(epilog="Example: latentrt decode bundle latents.safetensors -o clip.mp4 --fps 24")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("latents", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The output; its ending chooses the format, as described above.",
)
@click.option(
    "--scaled",
    is_flag=True,
    help='The file holds diffusion latents, which SD, SDXL, SD3 and FLUX.1 pipelines give with output_type="latent". '
    "LTX-2 and FLUX.2 Klein pipelines give model latents: leave the option out for them.",
)
@click.option("--fps", type=FrameRate(), help="Frames per second of a clip.  [default: the latents file's, or 24]")
@click.option("--timestep", type=float, help="For timestep-conditioned decoders (LTX-2 decodes at 0.05).")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    help="For decoders that inject noise. The noise also depends on the file's name.",
)
@force_option(
    "Replace an existing output. A folder is replaced only if it holds nothing but frames or pictures of LatentRT."
)
@way_options("Decode a clip chunk by chunk: the same pixels, in memory that does not grow with its length.")
@memory_option
@backend_options
@as_json
def decode(
    bundle: Path,
    latents: Path,
    output: Path,
    scaled: bool,
    fps: Fraction | None,
    timestep: float | None,
    seed: int | None,
    force: bool,
    way: Way,
    memory: str | None,
    json_output: bool,
    **engine: Any,
) -> None:
    """Decode the file LATENTS with BUNDLE.

    The ending of -o chooses the format: a picture (png, jpg, webp), a clip (mp4, webm, gif), or a .npy array, which
    holds the float32 sample. A name without an ending is a folder of frames or pictures. "-o -" writes a clip's raw
    frames to standard output while they are decoded, for a preview or for
    `| ffmpeg -f rawvideo -pix_fmt rgb24 -video_size WIDTHxHEIGHT -framerate 24 -i - -pix_fmt yuv420p clip.mp4`, where
    ffmpeg takes the width first. Options of LatentRT take the height first.

    Any safetensors file with a tensor named latents decodes. A latents file of LatentRT restores the original size, if
    that still fits the latents. With --stream or --tile a clip's frames are written while later frames are decoded, so
    memory does not grow with the clip's length. --stream gives the pixels of a single pass. --tile HEIGHTxWIDTH with it
    bounds memory in height and width too, and approximates.
    """
    from ..runtime.files.decoded_file import decode_file
    from ..runtime.files.destination import STANDARD_OUTPUT

    check_order("decode", bundle, latents, output)
    check_latents(bundle, latents)
    if fps is not None and output.suffix.lower() in PICTURE_ENDINGS:
        raise click.UsageError(f"--fps is for clips, and {output.name} is a picture: leave it out")
    with (
        open_bundle(bundle, **engine) as vae,
        calibration_notice(hidden=json_output),
        progress_bar("Decoding", hidden=json_output) as update,
    ):
        if fps is not None and not vae.video:
            raise InputError(f"--fps is for clips, and the bundle is {vae.family}: leave it out")
        way.enable(vae, memory)
        interrupt = Interrupt(vae)

        def progress(what: str, done: int, total: int) -> None:
            interrupt.check()
            update(what, done, total)

        options: dict[str, Any] = {
            "scaled": scaled,
            "frame_rate": fps,
            "temb": timestep,
            "seed": seed,
            "memory": memory,
            "overwrite": force,
        }
        report = interrupt.run(partial(decode_file, vae, latents, output, progress=progress, **options))
    if output == STANDARD_OUTPUT:
        return
    if json_output:
        emit_json(report)
    else:
        rate = f", {report['frame_rate']} frames per second" if "frame_rate" in report else ""
        echo(f"{output}: sample {report['shape']}{rate}; {how_it_ran(report)}")
