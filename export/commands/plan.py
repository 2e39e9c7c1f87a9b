"""`latentrt plan`: how a size would run within a budget, or into which tiles it would be cut."""

from pathlib import Path
from typing import Any

import click

from ...runtime.budget import default_budget, parse_memory
from ...runtime.errors import InputError
from ..sample_size import sample_size
from .options import Size, as_json, backend_options, emit_json, opened
from .tiling_options import enable_tiling, tiles_wanted, tiling_options

__all__ = ["plan"]


@click.command(epilog="Example: latentrt plan bundle --size 1088x1920x121 --memory 8GiB --draw plan.png")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--size", required=True, type=Size(("HxW", "HxWxT")), metavar="HxW[xT]", help="Of the picture or clip.")
@click.option("--component", type=click.Choice(["encoder", "decoder"]), default="decoder", show_default=True)
@click.option("--memory", metavar="SIZE", help="What a call may take, such as 8GiB.  [default: 70 % of what is free]")
@tiling_options
@backend_options
@click.option("--draw", type=click.Path(path_type=Path), help="Draw strategies, or tiles, to this .png or .svg.")
@as_json
def plan(
    bundle: Path,
    size: tuple[int, ...],
    component: str,
    memory: str | None,
    tile: tuple[int, ...] | None,
    overlap: tuple[int, ...] | None,
    blend: str | None,
    draw: Path | None,
    json_output: bool,
    **engine: Any,
) -> None:
    """Show how BUNDLE would run a picture or clip of --size: every strategy with the memory and the seconds that it
    takes, and which one wins within --memory.

    Memory is what the process holds for the call: the engine and its library, input, activations, result. It comes
    from small calls, which are measured the first time. With --tile or --blend it shows these tiles instead. A size
    off the model's grid is padded, as `encode` does.
    """
    in_tiles = tiles_wanted(tile, overlap, blend, memory)
    with opened(str(bundle), **engine) as vae:
        sample = sample_size(size, vae.family, vae.grid)
        title = f"{component}, {' x '.join(map(str, sample))}"
        if in_tiles:
            enable_tiling(vae, tile, overlap, blend or "linear")
            tiles = vae.tile_plan(component, sample)
        else:
            budget = default_budget() if memory is None else parse_memory(memory, "--memory")
            planner, _ = vae.planner()
            work = vae.workload(component, 1, vae.grid.latent_size(sample), "frames" if vae.video else "float32")
            decision = planner.decide(work, budget, vae.settings, complete=True)
    if draw is not None:
        from ..plan_drawing import draw_decision, draw_plan

        if in_tiles:
            draw_plan(tiles, draw, title=f"{title}, {blend or 'linear'}")
        else:
            draw_decision(decision, draw, title=title)
    report = tiles.to_json() if in_tiles else decision.to_json()
    if json_output:
        emit_json({"size": list(sample), "component": component, **report, "drawing": draw})
    else:
        click.echo((tiles if in_tiles else decision).table())
        if draw is not None:
            click.echo(f"{draw}: drawn")
    if not in_tiles and decision.chosen is None:
        raise InputError(f"--memory: {decision.reason}")
