"""`latentrt build`: the graphs of a bundle become TensorRT engines."""

import re
from pathlib import Path
from typing import Any

import click

from ..export.engines.settings import LARGEST_PICTURE, LIBRARIES, BuildSettings, Extent
from ..runtime.execution.stream_lengths import ENGINE_FRAMES
from ..runtime.system.budget import parse_memory
from .options import DTYPES, Memory, Size, as_json, components_option, emit_json, progress_bar
from .terminal import echo

__all__ = ["build"]


class _Capability(click.ParamType):  # type: ignore[type-arg] # generic only since click 8.5
    name = "MAJOR.MINOR"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"\d{1,2}\.\d", str(value)):
            self.fail(f"{value!r} is not a compute capability: give 8.9", param, ctx)
        return str(value)


@click.command(
    epilog="Example: latentrt build bundle --backend tensorrt-rtx --tile 512x512x17 --compute-capability 8.9"
)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--backend", type=click.Choice(list(LIBRARIES)), required=True)
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    type=click.Choice(DTYPES),
    help="Precision of the graphs to build; repeatable.  [default: float32]",
)
@components_option("Build")
@click.option(
    "--tile",
    "tiles",
    multiple=True,
    type=Size(("HxW", "HxWxT")),
    metavar="HxW[xT]",
    help="The largest sample, in pixels and frames; each further one is a profile more in the same engine.  "
    "[default: 512x512, and 17 frames for video]",
)
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="The largest batch of a tile.")
@click.option("--static", is_flag=True, help="Exactly the tiles, no smaller ones: for CUDA graphs.")
@click.option(
    "--shapes",
    multiple=True,
    nargs=3,
    type=Size(("BxHxW", "BxHxWxT")),
    metavar="MIN OPT MAX",
    help="A profile by its three sizes, each BxHxW[xT] with the batch in front, instead of --tile; repeatable.",
)
@click.option("--stream", is_flag=True, help="Video: also engines that run a clip in chunks.")
@click.option(
    "--chunk",
    type=click.IntRange(min=1),
    default=ENGINE_FRAMES,
    show_default=True,
    help="--stream: the most frames of a chunk.",
)
@click.option("--exact-tiles", "exact", is_flag=True, help="Images: also engines of the steps of exact strips.")
@click.option(
    "--picture",
    type=Size(("HxW",)),
    metavar="HxW",
    default="x".join(map(str, LARGEST_PICTURE)),
    show_default=True,
    help="--exact-tiles: the largest picture; --tile is the largest strip.",
)
@click.option(
    "--compute-capability",
    "capabilities",
    multiple=True,
    type=_Capability(),
    help="tensorrt-rtx: GPUs to build for, in one engine; repeatable.  [default: 8.0, 8.6, 8.9 and 12.0]",
)
@click.option("--optimization-level", type=click.IntRange(0, 5), help="How long to search.  [default: the library's]")
@click.option("--workspace", type=Memory(), help="The most scratch memory of one layer, such as 4GiB.")
@click.option("--tf32", is_flag=True, help="Let float32 graphs multiply with 10 bits of mantissa, as TensorRT does.")
@click.option(
    "--strip-weights", is_flag=True, help="tensorrt: leave out the weights, which loading takes from the bundle."
)
@click.option(
    "--refit",
    is_flag=True,
    help="tensorrt: an engine that takes the weights of any bundle with the same graph; may be slower.",
)
@click.option(
    "--engines-from",
    "source",
    type=click.Path(path_type=Path),
    metavar="OTHER",
    help="tensorrt: take the engines of this bundle, of which BUNDLE is a fine-tune, instead of building; with the "
    "options that they were built with. Implies --refit.",
)
@click.option("--version-compatible", is_flag=True, help="tensorrt: runs in later versions of the library too.")
@click.option("--hardware-compatible", is_flag=True, help="tensorrt: runs on every GPU from Ampere on.")
@click.option("--timing-cache/--no-timing-cache", default=None, help="tensorrt: keep what was timed.  [default: keep]")
@as_json
def build(
    bundle: Path,
    backend: str,
    dtypes: tuple[str, ...],
    components: tuple[str, ...],
    tiles: tuple[tuple[int, ...], ...],
    batch: int,
    static: bool,
    shapes: tuple[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]], ...],
    capabilities: tuple[str, ...],
    workspace: str | None,
    source: Path | None,
    json_output: bool,
    **options: Any,
) -> None:
    """Build TensorRT engines for the graphs of BUNDLE, into the bundle.

    Streaming graphs and the steps of exact strips are built where that is asked for: their engines together hold the
    weights once more, and take as long to build. A second time with nothing changed does nothing. tensorrt-rtx builds
    without a GPU, by default one engine for compute capabilities 8.0 to 12.0. tensorrt builds on the GPU that it builds
    for.

    One engine for many fine-tunes (tensorrt): build it with --strip-weights --refit for one of them, and run the same
    command with --engines-from for the others.
    """
    from ..export.engines.build import build_engines
    from ..export.engines.planning import default_tile
    from ..runtime.bundle.manifest import Manifest

    if shapes and (tiles or static):
        raise click.UsageError("--shapes says everything: give it without --tile and --static")
    if not shapes and not tiles:
        tiles = (default_tile(Manifest.open(bundle).config),)
    settings = BuildSettings(
        backend=backend,
        dtypes=tuple(dict.fromkeys(dtypes)) or ("float32",),
        components=tuple(dict.fromkeys(components)) or ("encoder", "decoder"),
        tiles=() if shapes else tuple(Extent(batch, *tile) for tile in tiles),
        static=static,
        shapes=tuple((Extent(*low), Extent(*best), Extent(*high)) for low, best, high in shapes),
        compute_capabilities=tuple(dict.fromkeys(capabilities)),
        workspace_bytes=None if workspace is None else parse_memory(workspace),
        **options,
    )
    with progress_bar("Building", hidden=json_output) as update:
        built = build_engines(bundle, settings, lambda done, total: update("steps", done, total), source)
    if json_output:
        found = [one.record.to_json() | {"fresh": one.fresh, "taken": one.taken} for one in built]
        emit_json({"bundle": str(bundle), "engines": found})
        return
    for one in built:
        record = one.record
        state = f"built in {record.built['build_seconds']} s" if one.fresh else "there already, nothing changed"
        state = f"taken from {source}" if one.taken else state
        capabilities_text = ", ".join(record.compute_capabilities)
        echo(f"{record.file}: {record.bytes / 1e6:.1f} MB for {capabilities_text}; {state}")
        for profile in record.profiles:
            echo(f"  {profile}")
