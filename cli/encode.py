"""`latentrt encode`: encode pictures and clips to latents files."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from ..runtime import open_bundle
from ..runtime.errors import InputError, MediaError
from .interrupt import Interrupt
from .mistakes import check_input, check_order
from .options.common import as_json, backend_options, force_option
from .options.origin import origin_options
from .options.tiling import Way, exact_option, memory_option, way_options
from .printing.folder_summary import FailureCount, show_folder
from .printing.progress import calibration_notice, progress_bar
from .printing.terminal import echo
from .temporary_folder import provide_temporary_folder

__all__ = ["encode"]


@click.command(epilog="Example: latentrt encode bundle photo.png -o latents.safetensors --sample --seed 7")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help='A .safetensors file (.latent with --to comfyui), a folder, or "-".',
)
@click.option(
    "--mode/--sample", "mode", default=True, help="Write the mean latents (default), or latents drawn with --seed."
)
@click.option(
    "--seed", type=click.IntRange(min=0), help="For --sample: the seed and a file's name give the file's noise."
)
@origin_options(
    "--to",
    "Where the latents go: the class of a diffusers pipeline, such as FluxPipeline, diffusers for the main pipeline of "
    "the model, comfyui (files end in .latent), or the space of the latents.  [default: model]",
    "As --to diffusion, which a pipeline's denoiser takes.",
)
@click.option(
    "--background",
    metavar="COLOUR",
    default="white",
    show_default=True,
    help="The colour behind transparent pixels, for models without alpha: a name, or #rrggbb.",
)
@force_option("Replace an existing file. In a folder, replace the files that this run would make differently.")
@way_options("Encode a clip chunk by chunk: the same latents, in memory that does not grow with its length.")
@click.option(
    "--colour-matrix",
    "matrix",
    type=click.Choice(["bt709", "bt601"]),
    help="For a clip that names no YUV matrix, or the wrong matrix.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    help="The most pixels that a picture may have.  [default: as many as the memory allows, up to 2**30]",
)
@click.option(
    "--check-range/--no-check-range",
    "check_range",
    default=True,
    help="Whether to refuse a .npy sample whose values look like those of a picture in 0..255 or 0..1.  "
    "[default: refuse it]",
)
@memory_option
@exact_option
@backend_options
@as_json
def encode(
    bundle: Path,
    source: Path,
    output: Path,
    mode: bool,
    seed: int | None,
    origin: str | None,
    scaled: bool,
    background: str,
    force: bool,
    way: Way,
    memory: str | None,
    exact: bool,
    matrix: str | None,
    max_pixels: int | None,
    check_range: bool,
    json_output: bool,
    **engine: Any,
) -> None:
    """Encode pictures or clips with BUNDLE to latents files.

    INPUT is a picture (png, jpg, webp, tif, bmp, avif, gif, ...), a clip (mp4, webm, mov, avi, ts, gif, ...) or a .npy
    array. Image models take a folder of pictures and write one latents file for each into the folder -o. For video
    models a folder of pictures is one clip, and a folder of clips is many. A size off the model's grid is padded, and
    the file keeps the original size. Colour profiles are converted to sRGB. Models with an alpha channel take
    transparency as it is.

    INPUT can be "-" for standard input, or a pipe. "-o -" writes one latents file to standard output.

    A folder can be encoded again: latents files that this run would make the same are left out. If the run would make
    a file differently (another option, another bundle, a changed picture), it ends with an error, unless --force
    replaces the file. The last line counts the entries of the folder that are no pictures or clips.

    A file of a folder that cannot be encoded is reported, and the others go on. The exit code is then 1, and a second
    run tries these files again. Several processes may encode one folder at a time, and share the work.

    With --sample the noise of a file comes from --seed and the file's name. So all files of a folder get different
    noise, and a file gets the same noise alone, in its folder, and in a rerun.
    """
    from ..runtime.arrays.ran import FileRun
    from ..runtime.files.destination import STANDARD_OUTPUT
    from ..runtime.files.encoded_file import encode_file
    from ..runtime.files.encoded_folder import encode_folder
    from ..runtime.files.folder_report import FolderReport
    from ..runtime.files.sources import folder_contents
    from ..runtime.files.standard_input import STANDARD_INPUT, readable_file
    from ..runtime.files.standard_output import latents_destination
    from ..runtime.media.alpha import background_colour

    check_order("encode", bundle, source, output)
    check_input(bundle, source, output)
    if mode and seed is not None:
        raise click.UsageError("--seed is for --sample: the mean latents need none")
    if not mode and seed is None:
        raise click.UsageError("--sample needs --seed N, so that the result can be made again")
    behind = background_colour(background)
    provide_temporary_folder(output)
    if not source.exists() and source != STANDARD_INPUT:
        raise MediaError(f"{source} does not exist: give a picture, a clip, a .npy array, or a folder of them")
    with (
        readable_file(source, "", output.parent) as file,
        latents_destination(output) as target,
        open_bundle(bundle, **engine) as vae,
        calibration_notice(hidden=json_output),
    ):
        way.enable(vae, memory)
        contents = folder_contents(source, vae) if source.is_dir() else None
        files = () if contents is None else contents.clips if vae.video else contents.pictures
        interrupt = Interrupt(vae)
        options: dict[str, Any] = {"seed": seed, "origin": origin, "scaled": scaled, "memory": memory}
        options |= {"background": behind, "matrix": matrix, "max_pixels": max_pixels, "stream": way.stream}
        options["check_range"] = check_range
        options |= {"check": interrupt.check, "overwrite": force, "exact": exact}
        with progress_bar("Encoding", hidden=json_output) as update:
            if files and output == STANDARD_OUTPUT:
                raise InputError(f"-o - writes one latents file, and {source} holds {len(files)} inputs: name a folder")
            if files:
                counted = FailureCount(update)
                options |= {"progress": counted.update, "on_failed": counted.add}
                report = interrupt.run(partial(encode_folder, vae, source, output, **options))
            else:
                encoded = interrupt.run(partial(encode_file, vae, file, target, progress=update, **options))
                run = FileRun(source, output, encoded.ran, encoded.seconds)
                report = FolderReport((run,), (), (), (), () if contents is None else contents.left_out)
        backend = {"backend": vae.backend, "dtype": vae.dtype}
    if output == STANDARD_OUTPUT:
        return
    show_folder(output, {**backend, **report.to_json()}, report, "latents file", json_output)
    if contents is not None and not json_output and (sentence := contents.sentence()) is not None:
        echo(sentence)
    if report.failed:
        click.get_current_context().exit(1)
