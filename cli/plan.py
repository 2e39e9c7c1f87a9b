"""`latentrt plan`: show how a size would run within a memory budget, or how it would be cut into tiles."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..export.figures.figure_file import check_figure_file
from ..export.figures.plan_drawing import draw_decision, draw_plan
from ..export.sample_size import sample_size
from ..runtime import open_bundle
from ..runtime.arrays.size_text import size_text
from ..runtime.autoencoders.autoencoder import Autoencoder
from ..runtime.errors import InputError
from ..runtime.media.clips.clip_reader import CLIP_ENDINGS
from ..runtime.media.pictures.picture_file import PICTURE_ENDINGS
from ..runtime.system.budget import memory_text, parse_memory
from .options.common import as_json, backend_options, batch_option
from .options.tiling import Way, exact_option, tiles_wanted, way_options
from .options.types import Memory, SizeType
from .printing.progress import calibration_notice
from .printing.size_order import size_order
from .printing.terminal import echo, emit_json

__all__ = ["plan"]

_MOST_ROWS = 9  # the chosen strategy and eight more
_CLIPS, _PICTURES = (tuple(ending.removeprefix(".") for ending in of) for of in (CLIP_ENDINGS, PICTURE_ENDINGS))
_ARRAYS = ("float32", "uint8")


@click.command(epilog="Example: latentrt plan bundle --size 1088x1920x121 --memory 8GiB --output mp4 --draw plan.png")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--size",
    required=True,
    type=SizeType(("HEIGHTxWIDTH", "HEIGHTxWIDTHxFRAMES")),
    metavar="HEIGHTxWIDTH[xFRAMES]",
    help="The size of the picture or clip.",
)
@click.option("--component", type=click.Choice(["encoder", "decoder"]), default="decoder", show_default=True)
@click.option(
    "--memory", type=Memory(), help="The most memory of a call, such as 8GiB.  [default: 70 % of the free memory]"
)
@click.option(
    "--output",
    type=click.Choice([*_CLIPS, *_PICTURES, "npy", "folder", *_ARRAYS, "frames"]),
    help="The form of the decoded sample: a file by its ending, a folder of pictures, an array, or frames that are not "
    "kept.  [default: float32, clips frames]",
)
@batch_option
@exact_option
@way_options("Plan a clip chunk by chunk, as decode and encode run it with --stream.")
@backend_options
@click.option("--draw", type=click.Path(path_type=Path), help="Draw strategies, or tiles, to this .png or .svg.")
@click.option("--all", "every_row", is_flag=True, help=f"Show every strategy.  [default: {_MOST_ROWS} rows]")
@as_json
def plan(
    bundle: Path,
    size: tuple[int, ...],
    component: str,
    memory: str | None,
    exact: bool,
    output: str | None,
    batch: int,
    way: Way,
    draw: Path | None,
    every_row: bool,
    json_output: bool,
    **engine: Any,
) -> None:
    """Show how BUNDLE would run a size, and in how much memory.

    The table shows strategies with their memory and seconds. The first row is the strategy that the planner chooses
    within --memory. With --tile or --blend the command shows these tiles instead.

    The memory is that of the process during the call: the engine and its library, input, activations and result, and
    the video encoder if the clip becomes a file. The numbers come from small calls, which are measured the first time.
    `encode` reads a clip from its file chunk by chunk. A size off the model's grid is padded, as `encode` pads it.
    """
    in_tiles = tiles_wanted(way.tile, way.overlap, way.blend, memory)
    if in_tiles and (output is not None or batch != 1):
        raise click.UsageError(
            "tiles are the same for every --output and --batch: leave these out, or leave the tiles out"
        )
    if in_tiles and exact:
        raise click.UsageError("tiles approximate: leave --require-exact out, or leave the tiles out")
    if in_tiles and (way.stream or way.strips):
        raise click.UsageError(
            "--tile, --overlap and --blend show tiles: leave --stream and --strips out, or leave the tiles out"
        )
    if output is not None and component == "encoder":
        raise click.UsageError("--output is the form of a decoded sample: leave it out for the encoder")
    if batch != 1 and output in (*_CLIPS, *_PICTURES):
        raise click.UsageError(f"one {output} file holds one sample: give --output folder or npy, or leave --batch out")
    if draw is not None:
        check_figure_file(draw)
    with open_bundle(bundle, **engine) as vae, calibration_notice(hidden=json_output):
        sample = sample_size(size, vae.family, vae.grid)
        report: dict[str, Any] = {"size": list(sample), "component": component}
        title = f"{component}, {size_text(sample)}"
        way.enable(vae)
        if in_tiles:
            tiles = vae.tile_plan(component, sample)
            drawn = partial(draw_plan, tiles, title=f"{title}, {way.blend or 'linear'}")
            _show(report | tiles.to_json(), tiles.table(), draw, drawn, json_output)
            return
        held_as = "float32" if component == "encoder" else _held_as(vae, output)
        writer_bytes = _video_encoder_bytes(size) if output in _CLIPS and vae.device == "cpu" else 0
        decision = vae.plan(
            sample,
            component=component,
            batch=batch,
            memory=None if memory is None else parse_memory(memory, "--memory"),
            exact=exact,
            output=held_as,
            in_chunks=vae.video and component == "encoder",
            caller_bytes=writer_bytes,
            complete=True,
        )
    report |= decision.to_json() | {"output": held_as, "batch": batch}
    text = decision.table() if every_row else decision.table(_MOST_ROWS)
    unseen = 0 if every_row else len(decision.candidates) - _MOST_ROWS
    if unseen > 0:
        text += (
            f"\n{unseen} more strateg{'y is' if unseen == 1 else 'ies are'} not shown: give --all to see every strategy"
        )
    if writer_bytes:
        report["video_encoder_bytes"] = writer_bytes
        text += f"\nthe video encoder is part of every row's memory: {memory_text(writer_bytes)}"
    _show(report, text, draw, partial(draw_decision, decision, title=title), json_output)
    if decision.chosen is None:
        raise InputError(f"--memory: {decision.reason}")


def _show(
    report: dict[str, Any], text: str, draw: Path | None, drawn: Callable[[Path], None], json_output: bool
) -> None:
    """Print the report as JSON or as text, and draw it if the user asked for that."""
    if json_output:
        emit_json({**report, "drawing": draw})
    else:
        order = size_order(text)
        echo(*text.split("\n"), *([order] if order else []))
    if draw is not None:
        drawn(draw)
        if not json_output:
            echo(f"{draw}: drawn")


def _held_as(vae: Autoencoder, output: str | None) -> str:
    """How the decoder's result is held in memory, as `Workload.output` names it. `output` is the value of --output.

    Raises:
        InputError: the model decodes to another kind of sample.
    """
    if output in (_PICTURES if vae.video else (*_CLIPS, "frames")):
        kind = "a clip" if vae.video else "a picture"
        raise InputError(f"--output {output}: {vae.family} decodes to {kind}: give another form, or leave it out")
    match output:
        case None:
            return "frames" if vae.video else "float32"
        case "float32" | "npy":
            return "float32"
        case "uint8":
            return "uint8"
        case _:  # files and folders; a clip's frames are written as they are decoded
            return "frames" if vae.video else "uint8"


def _video_encoder_bytes(size: tuple[int, ...]) -> int:
    """The memory of the video encoder, for frames of `size`, (height, width, ...) in pixels before padding."""
    from ..runtime.media.clips.video_writer import VideoWriter

    return VideoWriter.held_bytes(*size[:2])
