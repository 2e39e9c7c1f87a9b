"""`latentrt decode`: a latents file becomes a picture or a clip."""

from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..runtime.errors import InputError
from ..runtime.media.pictures.picture_file import PICTURE_ENDINGS
from ..runtime.system.number_text import parse_fraction
from .options import (
    Interrupt,
    as_json,
    backend_options,
    emit_json,
    force_option,
    how_it_ran,
    measuring_told,
    opened,
    progress_bar,
)
from .terminal import echo
from .tiling_options import Way, memory_option, way_options

__all__ = ["decode"]


class _Rate(click.ParamType):  # type: ignore[type-arg] # generic only since click 8.5
    name = "RATE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        try:
            rate = value if isinstance(value, Fraction) else parse_fraction(str(value))
        except ValueError:
            self.fail(f"{str(value)[:40]!r} is not a frame rate: give 24, 29.97 or 30000/1001", param, ctx)
        if rate <= 0:
            self.fail("a frame rate is positive", param, ctx)
        return rate


@click.command(epilog="Example: latentrt decode bundle latents.safetensors -o clip.mp4 --fps 24")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("latents", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="See above.")
@click.option(
    "--scaled",
    is_flag=True,
    help='The file holds diffusion latents: SD, SDXL, SD3 and FLUX.1 pipelines give them with output_type="latent". '
    "LTX-2 and FLUX.2 Klein pipelines give model latents: leave it out.",
)
@click.option("--fps", type=_Rate(), help="Frames per second of a clip.  [default: the latents file's, else 24]")
@click.option("--timestep", type=float, help="For timestep-conditioned decoders (LTX-2 decodes at 0.05).")
@click.option(
    "--seed", type=click.IntRange(min=0), help="For decoders that inject noise, which also depends on the file's name."
)
@force_option("Replace an output that exists; of folders only those that hold our frames or pictures and nothing else.")
@way_options("A clip chunk by chunk: the same pixels, in memory that does not grow.")
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

    The ending of -o chooses: a picture (png, jpg, webp), a clip (mp4, webm, gif), a .npy array (the float32 sample
    itself), or no ending: a folder of frames or pictures. "-o -" writes a clip's raw frames to standard output while
    they are decoded, for `| ffmpeg -f rawvideo -pix_fmt rgb24 -s WIDTHxHEIGHT -r 24 -i - clip.mp4` or a preview.

    A latents file that LatentRT wrote restores the original size, if that still fits the latents. Any safetensors file
    with a tensor named latents decodes. With --stream or --tile a clip's frames are written while later ones are
    decoded: memory does not grow with its length. --stream gives the pixels of a single pass; --tile HxW with it bounds
    memory in height and width too, and approximates.
    """
    from ..runtime.files.decoded_file import decode_file
    from ..runtime.files.destination import STANDARD_OUTPUT

    if fps is not None and output.suffix.lower() in PICTURE_ENDINGS:
        raise click.UsageError(f"--fps is for clips, and {output.name} is a picture: leave it out")
    with (
        opened(str(bundle), **engine) as vae,
        measuring_told(hidden=json_output),
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
