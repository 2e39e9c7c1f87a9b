"""`latentrt decode`: decode latents files to pictures, clips or arrays."""

from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..runtime import open_bundle
from ..runtime.arrays.size_text import size_text
from ..runtime.errors import InputError
from ..runtime.media.pictures.picture_file import PICTURE_ENDINGS
from ..runtime.system.outputs.partial_output import output_ending
from .interrupt import Interrupt
from .mistakes import check_latents, check_order
from .options.common import as_json, backend_options, force_option
from .options.origin import origin_options
from .options.tiling import Way, exact_option, memory_option, way_options
from .options.types import FrameRate, SizeType
from .printing.folder_summary import FailureCount, show_folder
from .printing.progress import calibration_notice, progress_bar
from .printing.run_summary import how_it_ran
from .printing.terminal import echo, emit_json
from .temporary_folder import provide_temporary_folder

__all__ = ["decode"]


@click.command(epilog="Example: latentrt decode bundle latents.safetensors -o clip.mp4 --fps 24")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("latents", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    help="The output; its ending chooses the format, as described above.",
)
@origin_options(
    "--from",
    "Where the latents come from: the class of a diffusers pipeline, such as LTX2Pipeline, diffusers for the main "
    "pipeline of the model, comfyui, or the space of the latents.  [default: the file's, or model]",
    "As --from diffusion.",
)
@click.option("--key", metavar="NAME", help="The tensor's name in LATENTS.  [default: latents, or the only tensor]")
@click.option(
    "--size",
    type=SizeType(("HEIGHTxWIDTH",)),
    metavar="HEIGHTxWIDTH",
    help="For packed latents of FLUX pipelines: the pixels that the pipeline was asked for.  [default: the file's]",
)
@click.option(
    "--format",
    "ending",
    metavar="ENDING",
    help="For a folder of latents: the ending of each output, such as jpg or npy.  [default: png, or mp4 for clips]",
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
@exact_option
@backend_options
@as_json
def decode(
    bundle: Path,
    latents: Path,
    output: str,
    origin: str | None,
    scaled: bool,
    key: str | None,
    size: tuple[int, int] | None,
    ending: str | None,
    fps: Fraction | None,
    timestep: float | None,
    seed: int | None,
    force: bool,
    way: Way,
    memory: str | None,
    exact: bool,
    json_output: bool,
    **engine: Any,
) -> None:
    """Decode the file LATENTS with BUNDLE. LATENTS can also be a folder of latents files.

    The ending of -o chooses the format: a picture (png, jpg, webp), a clip (mp4, webm, gif), or a .npy array, which
    holds the float32 sample. A name without an ending, or one that ends in a slash, is a folder of frames or pictures.
    A clip of one frame can be a picture. "-o -" writes a clip's raw frames to standard output while they are decoded,
    for a preview or for ffmpeg, which takes the width first. This makes a file that browsers play, for a clip of even
    width and height:

    \b
    latentrt decode bundle latents.safetensors -o - |
      ffmpeg -f rawvideo -pix_fmt rgb24 -s WIDTHxHEIGHT -r 24 -i - \\
        -vf scale=out_color_matrix=bt709:out_range=tv,format=yuv420p -colorspace bt709 \\
        -color_primaries bt709 -color_trc bt709 -color_range tv -movflags +faststart clip.mp4

    LATENTS can be "-" for standard input, or a pipe. Each file of a folder becomes one file in the folder -o. A file
    that cannot be decoded is reported, and the others go on. The exit code is then 1, and a second run tries these
    files again: it leaves out the outputs that exist, unless --force replaces them. Several processes may decode one
    folder at a time, and share the work.

    LATENTS is a safetensors, npy, npz, ComfyUI (.latent) or .pt file. --from names where its latents come from, because
    diffusers pipelines give different latents with output_type="latent". Files of LatentRT and ComfyUI say it
    themselves. Other files hold model latents unless you give it, and one line says so. A latents file of LatentRT
    restores the original size, if that still fits the latents.

    With --stream or --tile a clip's frames are written while later frames are decoded, so memory does not grow with the
    clip's length. --stream gives the pixels of a single pass. --tile HEIGHTxWIDTH with it bounds memory in height and
    width too, and approximates.
    """
    from ..runtime.files.decoded_file import decode_file
    from ..runtime.files.decoded_folder import decode_folder
    from ..runtime.files.destination import STANDARD_OUTPUT
    from ..runtime.files.folder_report import FolderReport
    from ..runtime.files.standard_input import readable_file

    check_order("decode", bundle, latents, Path(output))
    check_latents(bundle, latents)
    provide_temporary_folder(output)
    if fps is not None and output_ending(output) in PICTURE_ENDINGS:
        raise click.UsageError(f"--fps is for clips, and {output} is a picture: leave it out")
    is_folder = latents.is_dir()
    if ending is not None and not is_folder:
        raise click.UsageError("--format is for a folder of latents: the ending of -o chooses the format of a file")
    with (
        readable_file(latents, ".safetensors", Path(output).parent) as file,
        open_bundle(bundle, **engine) as vae,
        calibration_notice(hidden=json_output),
        progress_bar("Decoding", hidden=json_output) as update,
    ):
        if fps is not None and not vae.video:
            raise InputError(f"--fps is for clips, and the bundle is {vae.family}: leave it out")
        way.enable(vae, memory)
        interrupt, counted = Interrupt(vae), FailureCount(update)

        def progress(what: str, done: int, total: int) -> None:
            interrupt.check()
            counted.update(what, done, total)

        options: dict[str, Any] = {
            "origin": origin,
            "scaled": scaled,
            "key": key,
            "size": size,
            "frame_rate": fps,
            "temb": timestep,
            "seed": seed,
            "memory": memory,
            "exact": exact,
            "overwrite": force,
            "progress": progress,
        }
        report: FolderReport | dict[str, Any]
        if is_folder:
            options |= {"check": interrupt.check, "on_failed": counted.add}
            options["ending"] = ending if ending is None else f".{ending.lower().removeprefix('.')}"
            report = interrupt.run(partial(decode_folder, vae, latents, output, **options))
        else:
            report = interrupt.run(partial(decode_file, vae, file, output, **options))
        backend = {"backend": vae.backend, "dtype": vae.dtype}
    if isinstance(report, FolderReport):
        show_folder(Path(output), {**backend, **report.to_json()}, report, "file", json_output)
        if report.failed:
            click.get_current_context().exit(1)
    elif Path(output) == STANDARD_OUTPUT:
        return
    elif json_output:
        emit_json(report)
    else:
        rate = f", {report['frame_rate']} frames per second" if "frame_rate" in report else ""
        count, shown = report["shape"][0], size_text(report["shape"][2:])
        what = shown if count == 1 else f"{count} samples of {shown}"
        echo(f"{report['output']}: {what}{rate}; {how_it_ran(report, shown)}")
