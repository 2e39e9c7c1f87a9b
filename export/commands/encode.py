"""`latentrt encode`: pictures and clips become latents files."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from ...runtime.errors import MediaError, OutputError
from ..terminal import echo
from .options import Interrupt, as_json, backend_options, emit_json, measuring_told, opened, progress_bar
from .tiling_options import Way, memory_option, way_options

__all__ = ["encode"]


@click.command(epilog="Example: latentrt encode bundle photo.png -o latents.safetensors --sample --seed 7")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A .safetensors file or a folder.")
@click.option("--mode/--sample", "mode", default=True, help="The mean latents (default), or ones drawn with --seed.")
@click.option("--seed", type=click.IntRange(min=0), help="For --sample.")
@click.option("--scaled", is_flag=True, help="Write diffusion latents, as a pipeline's denoiser takes them.")
@click.option(
    "--background",
    metavar="COLOUR",
    default="white",
    show_default=True,
    help="What transparent pixels are composited on, for models without alpha: a name, or #rrggbb.",
)
@way_options("A clip chunk by chunk: the same latents, in memory that does not grow.")
@click.option(
    "--colour-matrix",
    "matrix",
    type=click.Choice(["bt709", "bt601"]),
    help="Of a clip that does not name its YUV matrix, or a wrong one.",
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
    way: Way,
    memory: str | None,
    matrix: str | None,
    json_output: bool,
    **engine: Any,
) -> None:
    """Encode INPUT with BUNDLE to a latents file.

    INPUT: a picture (png, jpg, webp), a clip (mp4, webm, gif, ...) or a .npy array. Image models take a folder of
    pictures and write one latents file each into the folder -o, leaving out those already there. For video models a
    folder of pictures is one clip, and a folder of clips is many. Sizes off the model's grid are padded, and the
    original size is kept in the file. Colour profiles are converted to sRGB. Models with an alpha channel take
    transparency as it is.
    """
    from ...runtime.alpha import background_colour
    from ...runtime.files import encode_file
    from ...runtime.partial_output import translated_errors
    from ...runtime.sources import list_inputs

    if mode and seed is not None:
        raise click.UsageError("--seed is for --sample: the mean latents need none")
    if not mode and seed is None:
        raise click.UsageError("--sample needs --seed N, so that the result can be made again")
    behind = background_colour(background)
    if not source.exists():
        raise MediaError(f"{source} does not exist: give a picture, a clip, a .npy array, or a folder of them")
    with opened(str(bundle), **engine) as vae, measuring_told(hidden=json_output):
        way.enable(vae, memory)
        several = list_inputs(source, vae)
        if several is not None and output.suffix.lower() == ".safetensors":
            raise OutputError(
                f"{output.name} is one latents file, and each of the {len(several)} files in {source} gets its own: "
                f"name a folder for them"
            )
        jobs = [(source, output)] if several is None else _outputs(several, output)
        waiting = [job for job in jobs if several is None or not job[1].exists()]
        if several is not None:
            with translated_errors(output):
                output.mkdir(parents=True, exist_ok=True)
        with progress_bar("Encoding", hidden=json_output) as update:
            update("files", len(jobs) - len(waiting), len(jobs))
            interrupt = Interrupt(vae)
            options: dict[str, Any] = {
                "seed": seed,
                "scaled": scaled,
                "stream": way.stream,
                "memory": memory,
                "progress": update,
                "background": behind,
                "matrix": matrix,
            }
            for index, (path, target) in enumerate(waiting):
                interrupt.run(partial(encode_file, vae, path, target, check=interrupt.check, **options))
                update("files", len(jobs) - len(waiting) + index + 1, len(jobs))
    if json_output:
        emit_json({"written": [str(target) for _, target in waiting], "skipped": len(jobs) - len(waiting)})
    else:
        skipped = f", {len(jobs) - len(waiting)} were there already" if len(waiting) < len(jobs) else ""
        echo(f"{output}: {len(waiting)} latents file{'' if len(waiting) == 1 else 's'} written{skipped}")


def _outputs(sources: list[Path], folder: Path) -> list[tuple[Path, Path]]:
    """Each source with its latents file: the source's stem, or its whole name where two share a stem."""
    stems = [path.stem for path in sources]
    names = [path.stem if stems.count(path.stem) == 1 else path.name for path in sources]
    return [(path, folder / f"{name}.safetensors") for path, name in zip(sources, names, strict=True)]
