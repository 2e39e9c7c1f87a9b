"""`latentrt bench`: how fast a bundle runs here, and in how much memory."""

from pathlib import Path

import click

from ..export.benchmark.chart import draw_chart
from ..export.benchmark.machine import describe_machine, machine_sentence
from ..export.benchmark.process import measure
from ..export.benchmark.report import BenchReport
from ..export.benchmark.selection import STRATEGIES, Selection, Skipped, select_cases
from ..export.figures.figure_file import check_figure_file
from ..runtime.backends.choose import BACKENDS
from ..runtime.bundle.manifest import Manifest
from ..runtime.errors import EngineError
from ..runtime.system.partial_output import partial_output, require_folder, translated_errors
from .options import (
    DTYPES,
    Memory,
    as_json,
    batch_option,
    components_option,
    emit_json,
    progress_bar,
    provider_option,
    sizes_option,
    threads_option,
)
from .terminal import echo
from .tiling_options import tiles_wanted, tiling_options

__all__ = ["bench"]


@click.command(epilog="Example: latentrt bench bundle --size 512x512 --dtype float32 --dtype bfloat16 --plot bench.png")
@click.argument("bundle", type=click.Path(path_type=Path))
@sizes_option("Of the picture or clip; repeatable.  [default: 512x512, clips 256x256x17]")
@components_option("Measure")
@click.option(
    "--backend", "backends", multiple=True, type=click.Choice(BACKENDS), help="Only this; repeatable.  [default: all]"
)
@provider_option("Only this one of ONNX Runtime's.")
@click.option(
    "--dtype", "dtypes", multiple=True, type=click.Choice(DTYPES), help="Precision; repeatable.  [default: float32]"
)
@click.option(
    "--strategy",
    "strategies",
    multiple=True,
    type=click.Choice(STRATEGIES),
    help="How calls run; repeatable. 'default': as a plain call does; 'stream' is for clips, 'exact' for pictures.  "
    "[default: default, and tiled with --tile, --overlap or --blend]",
)
@click.option("--warm", is_flag=True, help="Name each size to `warmup` first: OpenVINO compiles a model for it.")
@click.option(
    "--memory", type=Memory(), help="What a call may take, such as 8GiB, as memory= in Python: the planner chooses."
)
@tiling_options
@batch_option
@threads_option
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Calls that are timed.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Write the table, and what it was measured on.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw it to this .png or .svg.")
@as_json
def bench(
    bundle: Path,
    sizes: tuple[tuple[int, ...], ...],
    components: tuple[str, ...],
    backends: tuple[str, ...],
    provider: str | None,
    dtypes: tuple[str, ...],
    strategies: tuple[str, ...],
    warm: bool,
    memory: str | None,
    tile: tuple[int, ...] | None,
    overlap: tuple[int, ...] | None,
    blend: str | None,
    batch: int,
    threads: int | None,
    repeats: int,
    markdown: Path | None,
    plot: Path | None,
    json_output: bool,
) -> None:
    """Measure how fast BUNDLE runs on every backend that can run here: as a plain call does, or as --strategy says.

    A plain call ('default') is one pass where that surely fits into memory, and is planned where it might not; the
    table tells how it ran. 'whole' is one pass whatever the size.

    Every case gets a process of its own, one after the other: one call that is not counted, then --repeats calls,
    whose median, fastest and slowest are told, and the most memory that the process held (of the host's; what a GPU
    holds is not in it). A size off the model's grid is padded, as `encode` does. How near to the reference the results
    are is what `latentrt verify` tells.
    """
    in_tiles = tiles_wanted(tile, overlap, blend, memory)  # refuses what does not go together, before anything runs
    if in_tiles and strategies and "tiled" not in strategies:
        raise click.UsageError("--tile, --overlap and --blend are for --strategy tiled: give it too, or leave them out")
    if memory is not None and {"whole", "tiled"} & set(strategies):
        raise click.UsageError("--memory chooses how calls run: give it with --strategy default, stream or exact")
    if memory is not None and warm:
        raise click.UsageError("calls within --memory run in engines for every size: leave --warm out")
    if plot is not None:
        check_figure_file(plot)
    if markdown is not None:
        require_folder(markdown)
    manifest = Manifest.open(bundle)
    wanted = Selection(
        sizes,
        components,
        backends,
        dtypes,
        strategies,
        provider,
        threads,
        batch,
        repeats,
        tile,
        overlap,
        blend,
        warm,
        memory,
    )
    cases, skipped = select_cases(manifest, wanted)
    machine = describe_machine()
    measurements = []
    with progress_bar("bench", hidden=json_output) as update:
        for index, case in enumerate(cases):
            update("cases", index, len(cases))
            try:
                measurements.append(measure(bundle, case))
            except EngineError as error:
                skipped.append(Skipped(case.label, str(error)))
        update("cases", len(cases), len(cases))
    if not measurements:
        raise EngineError("nothing ran: " + "; ".join(f"{row.what}: {row.reason}" for row in skipped))
    name = bundle.resolve().name
    report = BenchReport(name, manifest.family, machine, tuple(measurements), tuple(skipped))
    if markdown is not None:
        with partial_output(markdown, overwrite=True) as partial, translated_errors(markdown):
            partial.write_text(report.markdown(), encoding="utf-8")
    if plot is not None:
        draw_chart(measurements, plot, title=f"{name}: {machine['cpu']}, {machine['cores']} cores")
    if json_output:
        emit_json(report.to_json())
        return
    echo(machine_sentence(machine))
    echo(*report.method().split("\n"), "")
    echo(*report.table().split("\n"))
    for row in skipped:
        echo(f"not measured: {row.what}: {row.reason}")
    for path in (markdown, plot):
        if path is not None:
            echo(f"{path}: written")
