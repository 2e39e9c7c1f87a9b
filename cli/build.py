"""`latentrt build`: build TensorRT engines from the graphs of a bundle."""

from pathlib import Path
from typing import Any

import click

from ..export.engines.settings import LARGEST_PICTURE, BuildSettings, Extent
from ..runtime.arrays.kinds import DTYPES, Dtype
from ..runtime.backends.names import LIBRARIES, EngineBackendName
from ..runtime.execution.stream_lengths import ENGINE_FRAMES
from ..runtime.system.budget import parse_memory
from .options.common import as_json, components_option
from .options.renamed import RenamedOption
from .options.types import Capability, Memory, SizeType
from .printing.progress import progress_bar
from .printing.terminal import echo, emit_json

__all__ = ["build"]


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
    type=SizeType(("HEIGHTxWIDTH", "HEIGHTxWIDTHxFRAMES")),
    metavar="HEIGHTxWIDTH[xFRAMES]",
    help="The largest sample, in pixels and frames. Each further tile adds a profile to the same engine.  "
    "[default: 512x512, and 17 frames for video]",
)
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="The largest batch of a tile.")
@click.option("--static", is_flag=True, help="Take the tiles' own sizes only, no smaller ones: for CUDA graphs.")
@click.option(
    "--shapes",
    multiple=True,
    nargs=3,
    type=SizeType(("BATCHxHEIGHTxWIDTH", "BATCHxHEIGHTxWIDTHxFRAMES")),
    metavar="MIN OPT MAX",
    help="Instead of --tile: a profile by its three sizes, each BATCHxHEIGHTxWIDTH[xFRAMES]; repeatable.",
)
@click.option("--stream", is_flag=True, help="Video: also build engines that run a clip in chunks.")
@click.option(
    "--chunk",
    type=click.IntRange(min=1),
    default=ENGINE_FRAMES,
    show_default=True,
    help="With --stream: the most frames of a chunk.",
)
@click.option(
    "--strips",
    "exact",
    cls=RenamedOption,
    former="--exact-tiles",
    since="0.1",
    is_flag=True,
    help="Also build engines that run a picture or a clip in strips. Those of clips are the engines of --stream.",
)
@click.option(
    "--picture",
    type=SizeType(("HEIGHTxWIDTH",)),
    metavar="HEIGHTxWIDTH",
    default="x".join(map(str, LARGEST_PICTURE)),
    show_default=True,
    help="Images, with --strips: the largest picture. --tile is the largest strip of a picture or a clip.",
)
@click.option(
    "--compute-capability",
    "capabilities",
    multiple=True,
    type=Capability(),
    help="tensorrt-rtx: a GPU to build for; repeatable, in one engine.  [default: 8.0, 8.6, 8.9 and 12.0]",
)
@click.option(
    "--optimization-level",
    type=click.IntRange(0, 5),
    help="How long the library searches for fast kernels.  [default: the library's]",
)
@click.option("--workspace", type=Memory(), help="The most scratch memory of one layer, such as 4GiB.")
@click.option(
    "--tf32", is_flag=True, help="Let float32 graphs multiply with 10 bits of mantissa, which is TensorRT's default."
)
@click.option(
    "--strip-weights",
    is_flag=True,
    help="tensorrt: leave the weights out of the engine. Loading takes them from the bundle.",
)
@click.option(
    "--refit",
    is_flag=True,
    help="tensorrt: build an engine that takes the weights of any bundle with the same graph. It may be slower.",
)
@click.option(
    "--engines-from",
    "source",
    type=click.Path(path_type=Path),
    metavar="OTHER",
    help="tensorrt: instead of building, take the engines of the bundle OTHER, of which BUNDLE is a fine-tune. Give "
    "the options that OTHER was built with. Implies --refit.",
)
@click.option(
    "--version-compatible",
    is_flag=True,
    help="tensorrt: build an engine that runs in later versions of the library too.",
)
@click.option(
    "--hardware-compatible", is_flag=True, help="tensorrt: build an engine that runs on every GPU since Ampere."
)
@click.option(
    "--timing-cache/--no-timing-cache",
    default=None,
    help="tensorrt: keep the timings of kernels for later builds.  [default: keep]",
)
@as_json
def build(
    bundle: Path,
    backend: EngineBackendName,
    dtypes: tuple[Dtype, ...],
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
    """Build TensorRT engines for the graphs of BUNDLE.

    The engines are stored in the bundle. --stream and --strips also build engines for streaming and for strips:
    together these hold the weights once more, and take as long to build. The command does nothing if nothing has
    changed since the last time. tensorrt-rtx builds without a GPU, by default one engine for compute capabilities 8.0
    to 12.0. tensorrt builds on the GPU that will run the engine.

    One engine can serve many fine-tunes (tensorrt): build it with --strip-weights --refit for one of them, and run the
    same command with --engines-from for the others.
    """
    from ..export import build_engines
    from ..export.engines.planning import default_tile
    from ..runtime.bundle.manifest import Manifest

    if shapes and (tiles or static):
        raise click.UsageError("--shapes gives all sizes: leave --tile and --static out")
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
        state = f"built in {record.built['build_seconds']} s" if one.fresh else "already built, nothing changed"
        state = f"taken from {source}" if one.taken else state
        capabilities_text = ", ".join(record.compute_capabilities)
        echo(f"{record.file}: {record.bytes / 1e6:.1f} MB for {capabilities_text}; {state}")
        for profile in record.profiles:
            echo(f"  {profile}")
