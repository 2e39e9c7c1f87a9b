"""`latentrt plan`: into which tiles a size would be cut."""

from pathlib import Path

import click

from ...runtime.errors import InputError
from .options import Size, as_json, emit_json, opened
from .tiling_options import enable_tiling, tiling_options

__all__ = ["plan"]


@click.command(epilog="Example: latentrt plan bundle --size 1088x1920x121 --tile 512x512x24 --draw plan.png")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--size", required=True, type=Size(("HxW", "HxWxT")), metavar="HxW[xT]", help="Of the picture or clip.")
@click.option("--component", type=click.Choice(["encoder", "decoder"]), default="decoder", show_default=True)
@tiling_options
@click.option("--draw", type=click.Path(path_type=Path), help="Draw tiles, overlaps and weights to this .png or .svg.")
@as_json
def plan(
    bundle: Path,
    size: tuple[int, ...],
    component: str,
    tile: tuple[int, ...] | None,
    overlap: tuple[int, ...] | None,
    blend: str | None,
    draw: Path | None,
    json_output: bool,
) -> None:
    """Show the tiles into which BUNDLE cuts a picture or clip of --size.

    Without --tile these are the default tiles of the blend. A size off the model's grid is padded, as `encode` does.
    """
    with opened(str(bundle), backend="auto", dtype="float32", provider=None, threads=None) as vae:
        if len(size) != (3 if vae.video else 2):
            wanted = "HxWxT" if vae.video else "HxW"
            raise InputError(f"--size: {vae.family} takes {wanted}, got {'x'.join(map(str, size))}")
        enable_tiling(vae, tile, overlap, blend or "linear")
        sample = vae.grid.padded_size((size[2], *size[:2]) if vae.video else size)
        tiles = vae.tile_plan(component, sample)
    if draw is not None:
        from ..plan_drawing import draw_plan

        draw_plan(tiles, draw, title=f"{component}, {' x '.join(map(str, sample))}, {blend or 'linear'}")
    if json_output:
        emit_json({"size": list(sample), "component": component, **tiles.to_json(), "drawing": draw})
        return
    click.echo(tiles.table())
    if draw is not None:
        click.echo(f"{draw}: drawn")
