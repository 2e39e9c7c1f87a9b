"""`latentrt warmup`: everything that is slow the first time, done before the first request."""

import time
from pathlib import Path
from typing import Any

import click

from ..export.sample_size import sample_size
from .options import as_json, backend_options, batch_option, emit_json, opened, sizes_option
from .terminal import echo
from .tiling_options import Way, way_options

__all__ = ["warmup"]


@click.command(epilog="Example: latentrt warmup bundle --backend tensorrt-rtx --dtype float16 --size 512x512x17")
@click.argument("bundle", type=click.Path(path_type=Path))
@sizes_option("Run a sample of this size once; repeatable.  [default: only load the engines]")
@batch_option
@way_options("Clips: what calls that stream run on.")
@backend_options
@as_json
def warmup(
    bundle: Path,
    sizes: tuple[tuple[int, ...], ...],
    batch: int,
    way: Way,
    json_output: bool,
    **engine: Any,
) -> None:
    """Load the engines of BUNDLE and run them once, so that what is compiled and cached on first use is there.

    Engines are never built here, nor by any other command than `latentrt build`: where one is missing, the error says
    what to run. What TensorRT-RTX compiles for a size stays in the cache folder; the rest warms the disk's cache. Give
    the size, --batch, --stream, tiles and strips of later calls, and --dtype float32 too where a result of lower
    precision that is not finite is to be run again in float32 without compiling.
    """
    if way.exact and not sizes:
        raise click.UsageError("--exact needs --size HxW: its steps are loaded one by one, as a picture runs")
    with opened(str(bundle), **engine) as vae:
        way.enable(vae)
        shapes = [(batch, vae.config.in_channels, *sample_size(size, vae.family, vae.grid)) for size in sizes]
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            vae.warmup(shapes)
            seconds.append(time.perf_counter() - started)
        backend = vae.backend
    if json_output:
        emit_json({"backend": backend, "shapes": shapes, "first_seconds": seconds[0], "again_seconds": seconds[1]})
    else:
        echo(f"{backend}: {seconds[0]:.2f} s the first time, {seconds[1]:.2f} s again")
