"""`latentrt warmup`: load and run the engines before the first request."""

import time
from pathlib import Path
from typing import Any

import click

from ..export.sample_size import sample_size
from ..runtime import open_bundle
from .options.common import as_json, backend_options, batch_option, sizes_option
from .options.tiling import Way, way_options
from .printing.terminal import echo, emit_json

__all__ = ["warmup"]


@click.command(epilog="Example: latentrt warmup bundle --backend tensorrt-rtx --dtype float16 --size 512x512x17")
@click.argument("bundle", type=click.Path(path_type=Path))
@sizes_option("Run a sample of this size once; repeatable.  [default: only load the engines]")
@batch_option
@way_options("Clips: load the engines of calls that stream.")
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
    """Load and run the engines of BUNDLE before the first request.

    Engines compile and cache some work on first use: TensorRT-RTX keeps the kernels of a size in the cache folder, and
    reading the files fills the system's disk cache. Give the size, --batch, --stream, tiles and strips of the later
    calls. A result of lower precision that is not finite runs again in float32: run the command with --dtype float32
    too, so that this rerun does not compile.

    This command never builds an engine; only `latentrt build` does. If an engine is missing, the error says which
    command to run.
    """
    if way.strips and not sizes:
        raise click.UsageError(
            "--strips needs --size HEIGHTxWIDTH: the steps of strips are loaded one by one, as a picture runs"
        )
    with open_bundle(bundle, **engine) as vae:
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
