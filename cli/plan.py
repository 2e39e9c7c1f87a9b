"""`latentrt plan`: how a size would run within a budget, or into which tiles it would be cut."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..export.figures.figure_file import check_figure_file
from ..export.figures.plan_drawing import draw_decision, draw_plan
from ..export.sample_size import sample_size
from ..runtime.autoencoders.autoencoder import Autoencoder
from ..runtime.errors import InputError
from ..runtime.media.clips.clip_reader import CLIP_ENDINGS
from ..runtime.media.pictures.picture_file import PICTURE_ENDINGS
from ..runtime.system.budget import memory_text, parse_memory
from .options import Memory, Size, as_json, backend_options, batch_option, emit_json, measuring_told, opened
from .terminal import echo
from .tiling_options import Way, tiles_wanted, way_options

__all__ = ["plan"]

_CLIPS, _PICTURES = (tuple(ending.removeprefix(".") for ending in of) for of in (CLIP_ENDINGS, PICTURE_ENDINGS))
_ARRAYS = ("float32", "uint8")


@click.command(epilog="Example: latentrt plan bundle --size 1088x1920x121 --memory 8GiB --output mp4 --draw plan.png")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--size", required=True, type=Size(("HxW", "HxWxT")), metavar="HxW[xT]", help="Of the picture or clip.")
@click.option("--component", type=click.Choice(["encoder", "decoder"]), default="decoder", show_default=True)
@click.option("--memory", type=Memory(), help="What a call may take, such as 8GiB.  [default: 70 % of what is free]")
@click.option(
    "--output",
    type=click.Choice([*_CLIPS, *_PICTURES, "npy", "folder", *_ARRAYS, "frames"]),
    help="What a decoded sample becomes: a file by its ending, a folder of pictures, an array, or frames that nobody "
    "keeps.  [default: float32, clips frames]",
)
@batch_option
@way_options("A clip chunk by chunk in any case, as decode and encode have it.")
@backend_options
@click.option("--draw", type=click.Path(path_type=Path), help="Draw strategies, or tiles, to this .png or .svg.")
@as_json
def plan(
    bundle: Path,
    size: tuple[int, ...],
    component: str,
    memory: str | None,
    output: str | None,
    batch: int,
    way: Way,
    draw: Path | None,
    json_output: bool,
    **engine: Any,
) -> None:
    """Show how BUNDLE would run a picture or clip of --size: every strategy with the memory and the seconds that it
    takes, and which one wins within --memory.

    Memory is what the process holds for the call: the engine and its library, input, activations, result; of a clip
    that becomes a file the video encoder too. It comes from small calls, which are measured the first time. A clip to
    encode is read from a file as it is needed. With --tile or --blend it shows these tiles instead. A size off the
    model's grid is padded, as `encode` does.
    """
    in_tiles = tiles_wanted(way.tile, way.overlap, way.blend, memory)
    if in_tiles and (output is not None or batch != 1):
        raise click.UsageError("tiles are the same for every --output and --batch: leave these out, or the tiles")
    if in_tiles and (way.stream or way.exact):
        raise click.UsageError("--tile, --overlap and --blend show tiles: leave --stream and --exact out, or the tiles")
    if output is not None and component == "encoder":
        raise click.UsageError("--output is what a decoded sample becomes: leave it out for the encoder")
    if batch != 1 and output in (*_CLIPS, *_PICTURES):
        raise click.UsageError(f"one {output} file holds one sample: give --output folder or npy, or leave --batch out")
    if draw is not None:
        check_figure_file(draw)
    with opened(str(bundle), **engine) as vae, measuring_told(hidden=json_output):
        sample = sample_size(size, vae.family, vae.grid)
        told: dict[str, Any] = {"size": list(sample), "component": component}
        title = f"{component}, {' x '.join(map(str, sample))}"
        way.enable(vae)
        if in_tiles:
            tiles = vae.tile_plan(component, sample)
            drawn = partial(draw_plan, tiles, title=f"{title}, {way.blend or 'linear'}")
            _show(told | tiles.to_json(), tiles.table(), draw, drawn, json_output)
            return
        held_as = "float32" if component == "encoder" else _held_as(vae, output)
        writer_bytes = _video_encoder_bytes(size) if output in _CLIPS and vae.device == "cpu" else 0
        decision = vae.plan(
            sample,
            component=component,
            batch=batch,
            memory=None if memory is None else parse_memory(memory, "--memory"),
            output=held_as,
            in_chunks=vae.video and component == "encoder",
            caller_bytes=writer_bytes,
            complete=True,
        )
    told |= decision.to_json() | {"output": held_as, "batch": batch}
    text = decision.table()
    if writer_bytes:
        told["video_encoder_bytes"] = writer_bytes
        text += f"\nthe video encoder is part of every row's memory: {memory_text(writer_bytes)}"
    _show(told, text, draw, partial(draw_decision, decision, title=title), json_output)
    if decision.chosen is None:
        raise InputError(f"--memory: {decision.reason}")


def _show(told: dict[str, Any], text: str, draw: Path | None, drawn: Callable[[Path], None], json_output: bool) -> None:
    """Tell it to programs or to people, and draw it where that is wanted."""
    if json_output:
        emit_json({**told, "drawing": draw})
    else:
        echo(*text.split("\n"))
    if draw is not None:
        drawn(draw)
        if not json_output:
            echo(f"{draw}: drawn")


def _held_as(vae: Autoencoder, output: str | None) -> str:
    """What becomes of the result while it is made, as `Workload` has it; None: what was not said.

    Raises:
        InputError: the model's samples do not become that.
    """
    if output in (_PICTURES if vae.video else (*_CLIPS, "frames")):
        kind = "a clip" if vae.video else "a picture"
        raise InputError(f"--output {output}: {vae.family} decodes to {kind}: give another one, or leave it out")
    match output:
        case None:
            return "frames" if vae.video else "float32"
        case "float32" | "npy":
            return "float32"
        case "uint8":
            return "uint8"
        case _:  # files and folders; a clip's frames are written as they come
            return "frames" if vae.video else "uint8"


def _video_encoder_bytes(size: tuple[int, ...]) -> int:
    """What the encoder of a clip's file holds of the budget, for frames of (height, width, ...) before padding."""
    from ..runtime.media.clips.video_writer import VideoWriter

    return VideoWriter.held_bytes(*size[:2])
