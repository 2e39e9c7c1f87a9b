"""`latentrt export`: export a checkpoint to a bundle."""

from pathlib import Path
from typing import Any

import click

from ..export.checkpoints import SourceOptions
from ..runtime.arrays.kinds import DTYPES, Dtype
from .options.common import as_json, components_option, scaling_options, source_options
from .options.renamed import RenamedOption
from .printing.progress import progress_bar
from .printing.terminal import echo, emit_json

__all__ = ["export"]


@click.command(epilog="Example: latentrt export path/to/stable-diffusion/vae bundle --scaling-factor 0.18215")
@click.argument("source", type=click.Path())
@click.argument("bundle", type=click.Path(path_type=Path))
@components_option("Export")
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    type=click.Choice(DTYPES),
    help="Precision of the computation; repeatable, one graph for each.  [default: float32]",
)
@scaling_options
@source_options
@click.option(
    "--attention",
    type=click.Choice(["sdpa", "eager", "sliced"]),
    default="sdpa",
    show_default=True,
    help="sdpa: the pattern that engines fuse; eager: plain operators; sliced: queries in pieces, in bounded memory.",
)
@click.option("--fuse-qkv/--no-fuse-qkv", default=True, show_default=True, help="Compute q, k and v in one projection.")
@click.option(
    "--stream/--no-stream", default=True, show_default=True, help="Video: also export graphs that run a clip in chunks."
)
@click.option(
    "--strips/--no-strips",
    "exact",
    cls=RenamedOption,
    former="--exact-tiles/--no-exact-tiles",
    since="0.1",
    default=True,
    show_default=True,
    help="Images: also export graphs that run a picture in strips. They are small, since they share the weights.",
)
@click.option(
    "--causal",
    "causal",
    multiple=True,
    type=click.BOOL,
    help="Video: also export graphs of this causality, for causal= at run time; repeatable.",
)
@click.option(
    "--check-range",
    "check_range",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="SAMPLES",
    help="Your own pictures or clips: layers that overflow float16 on them stay in float32; repeatable. Samples larger "
    "than 1024x1024 are scaled down to that.",
)
@click.option(
    "--license",
    metavar="NAME",
    help="The licence of the weights, such as apache-2.0, for the bundle's manifest.  [default: the model card's]",
)
@as_json
def export(
    source: str,
    bundle: Path,
    components: tuple[str, ...],
    dtypes: tuple[Dtype, ...],
    overrides: dict[str, Any],
    source_options: SourceOptions,
    attention: str,
    fuse_qkv: bool,
    stream: bool,
    exact: bool,
    causal: tuple[bool, ...],
    check_range: tuple[Path, ...],
    license: str | None,
    json_output: bool,
) -> None:
    """Export the checkpoint SOURCE to the folder BUNDLE.

    SOURCE is a folder of diffusers or Flax, or of a pipeline that holds a vae; a single file of Stable Diffusion, SDXL,
    SD3, FLUX or LTX-2, also a full checkpoint; or a model on the Hugging Face hub (org/name). The command prints the
    format that it found, and `latentrt inspect SOURCE` prints it beforehand. The bundle holds one ONNX graph per
    component, with dynamic batch and sizes, and the weights once. It exists only if the whole export succeeded.
    """
    from ..export import ExportSettings, export_bundle

    settings = ExportSettings(
        components=tuple(dict.fromkeys(components)) or ("encoder", "decoder"),
        dtypes=tuple(dict.fromkeys(dtypes)) or ("float32",),
        attention=attention,
        fuse_qkv=fuse_qkv,
        exact=exact,
        causal=causal,
        stream=stream,
        check_range=check_range,
        overrides=overrides,
        source=source_options,
        license=license,
    )
    with (
        progress_bar("Exporting", hidden=json_output) as update,
        progress_bar("Checking ranges", hidden=json_output) as update_ranges,
    ):
        manifest = export_bundle(
            source,
            bundle,
            settings,
            lambda _, done, total: update("steps", done, total),
            lambda what, done, total: update_ranges("runs", done, total, what),
        )
    size = sum(file.size_bytes for file in manifest.files)
    if json_output:
        emit_json({"bundle": str(bundle), "bytes": size, **manifest.to_json()})
        return
    seconds = manifest.produced_by["seconds"]
    variant = f" ({manifest.produced_by['variant']})" if manifest.produced_by["variant"] else ""
    echo(f"{source}: {manifest.produced_by['format']}")
    took = "" if seconds is None else f" in {seconds} s"
    echo(f"{bundle}: {manifest.family}{variant}, {' and '.join(manifest.components)}, {size / 1e6:.1f} MB{took}")
    for graph in manifest.graphs:
        axes = " ".join(f"{tensor.name}{list(tensor.shape)}" for tensor in (*graph.inputs, *graph.outputs))
        echo(f"  {graph.file}: {graph.dtype}, opset {graph.opset}, {axes}".replace("'", ""))
    if manifest.streams:
        echo(f"  {len(manifest.streams)} graphs that run a clip in chunks, {manifest.streams[0].dtype}")
    for file, kept in (manifest.ranges or {}).get("kept_in_float32", {}).items():
        echo(f"  {file}: {len(kept)} tensors overflow float16 on these samples and stay in float32")
    if "float16" in settings.dtypes and not settings.check_range and manifest.config.force_upcast:
        echo(
            "  float16: the config says force_upcast, so values may overflow float16. A call that overflows runs again "
            "in float32 if the bundle has it; --check-range PICTURES keeps such layers in float32 from the start"
        )
    if "float32" not in settings.dtypes and "bfloat16" in settings.dtypes:
        echo("  bfloat16 runs on TensorRT; add --dtype float32 for a fallback to ONNX Runtime on a CPU")
