"""`latentrt encode`: encode pictures and clips to latents files."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..runtime import open_bundle
from ..runtime.errors import MediaError, OutputError
from .interrupt import Interrupt
from .mistakes import check_input, check_order
from .options.common import as_json, backend_options, force_option
from .options.tiling import Way, memory_option, way_options
from .progress import calibration_notice, progress_bar
from .run_summary import how_it_ran
from .terminal import echo, emit_json

if TYPE_CHECKING:
    from ..runtime.files.encode_jobs import EncodeJob

__all__ = ["encode"]


@click.command(epilog="Example: latentrt encode bundle photo.png -o latents.safetensors --sample --seed 7")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A .safetensors file or a folder.")
@click.option(
    "--mode/--sample", "mode", default=True, help="Write the mean latents (default), or latents drawn with --seed."
)
@click.option(
    "--seed", type=click.IntRange(min=0), help="For --sample: the seed and a file's name give the file's noise."
)
@click.option("--scaled", is_flag=True, help="Write diffusion latents, which a pipeline's denoiser takes.")
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
@memory_option
@backend_options
@as_json
def encode(
    bundle: Path,
    source: Path,
    output: Path,
    mode: bool,
    seed: int | None,
    scaled: bool,
    background: str,
    force: bool,
    way: Way,
    memory: str | None,
    matrix: str | None,
    json_output: bool,
    **engine: Any,
) -> None:
    """Encode pictures or clips with BUNDLE to latents files.

    INPUT is a picture (png, jpg, webp, tif, bmp, avif, gif, ...), a clip (mp4, webm, mov, avi, ts, gif, ...) or a .npy
    array. Image models take a folder of pictures and write one latents file for each into the folder -o. For video
    models a folder of pictures is one clip, and a folder of clips is many. A size off the model's grid is padded, and
    the file keeps the original size. Colour profiles are converted to sRGB. Models with an alpha channel take
    transparency as it is.

    A folder can be encoded again: latents files that this run would make the same are left out. If the run would make
    a file differently (another option, another bundle, a changed picture), it ends with an error, unless --force
    replaces the file. The last line counts the entries of the folder that are no pictures or clips.

    With --sample the noise of a file comes from --seed and the file's name. So all files of a folder get different
    noise, and a file gets the same noise alone, in its folder, and in a rerun.
    """
    from ..runtime.arrays.ran import FileRun, summary
    from ..runtime.files.encode_jobs import EncodeJob, check_same, encode_jobs, settings_of
    from ..runtime.files.encoded_file import encode_file
    from ..runtime.files.sources import folder_contents
    from ..runtime.media.alpha import background_colour
    from ..runtime.system.partial_output import translated_errors

    check_order("encode", bundle, source, output)
    check_input(bundle, source, output)
    if mode and seed is not None:
        raise click.UsageError("--seed is for --sample: the mean latents need none")
    if not mode and seed is None:
        raise click.UsageError("--sample needs --seed N, so that the result can be made again")
    behind = background_colour(background)
    if not source.exists():
        raise MediaError(f"{source} does not exist: give a picture, a clip, a .npy array, or a folder of them")
    with open_bundle(bundle, **engine) as vae, calibration_notice(hidden=json_output):
        way.enable(vae, memory)
        contents = folder_contents(source, vae) if source.is_dir() else None
        files = () if contents is None else contents.clips if vae.video else contents.pictures
        if files and output.suffix.lower() == ".safetensors":
            raise OutputError(
                f"{output.name} is one latents file, and each of the {len(files)} files in {source} gets its own: "
                f"name a folder for them"
            )
        interrupt = Interrupt(vae)
        jobs = [EncodeJob(source, output)]
        if files:
            settings = settings_of(vae, seed=seed, scaled=scaled, background=behind, matrix=matrix)
            jobs = interrupt.run(partial(encode_jobs, files, output, vae, settings, interrupt.check))
            if not force:
                check_same(jobs, output)
            with translated_errors(output):
                output.mkdir(parents=True, exist_ok=True)
        redone = ("absent", "other", "unrecorded") if force else ("absent",)
        waiting = [job for job in jobs if job.state in redone]
        options: dict[str, Any] = {"seed": seed, "scaled": scaled, "stream": way.stream, "memory": memory}
        options |= {"background": behind, "matrix": matrix}
        runs: list[FileRun] = []
        with progress_bar("Encoding", hidden=json_output) as update:
            update("files", len(jobs) - len(waiting), len(jobs))
            options |= {"progress": update, "check": interrupt.check, "overwrite": force}
            for job in waiting:
                encoded = interrupt.run(partial(encode_file, vae, job.source, job.target, **options))
                runs.append(FileRun(job.source, job.target, encoded.ran, encoded.seconds))
                update("files", len(jobs) - len(waiting) + len(runs), len(jobs))
        report = {"backend": vae.backend, "dtype": vae.dtype, **summary(runs)}
    kept = [job for job in jobs if job.state not in redone]
    left_out = () if contents is None else contents.left_out
    if json_output:
        there = [{"file": str(job.source), "reason": f"{job.target} is there already"} for job in kept]
        emit_json(
            {
                "written": [str(job.target) for job in waiting],
                "skipped": there + [one.to_json() for one in left_out],
                **report,
                "files": [run.to_json() for run in runs],
            }
        )
        return
    echo(
        f"{output}: {len(waiting)} latents file{'' if len(waiting) == 1 else 's'} written{_kept_text(kept)}; "
        f"{how_it_ran(report)}"
    )
    if contents is not None and (sentence := contents.sentence()) is not None:
        echo(sentence)


def _kept_text(kept: "list[EncodeJob]") -> str:
    unrecorded = sum(job.state == "unrecorded" for job in kept)
    older = f" ({unrecorded} of them by a version that recorded no settings)" if unrecorded else ""
    return f", {len(kept)} were there already{older}" if kept else ""
