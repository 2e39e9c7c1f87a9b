"""`latentrt bench`: measure how fast a bundle runs on this machine, and in how much memory."""

from pathlib import Path
from typing import Any

import click

from ..export.benchmark.chart import draw_chart
from ..export.benchmark.machine import describe_machine, machine_sentence
from ..export.benchmark.process import measure
from ..export.benchmark.report import BenchReport
from ..export.benchmark.selection import STRATEGIES, Selection, Skipped, select_cases
from ..export.figures.figure_file import check_figure_file
from ..runtime.arrays.kinds import DTYPES
from ..runtime.backends.choose import BACKENDS
from ..runtime.bundle.manifest import Manifest
from ..runtime.errors import EngineError
from ..runtime.system.outputs.partial_output import partial_output, require_file, translated_errors
from .options.common import as_json, batch_option, components_option, provider_option, sizes_option, threads_option
from .options.tiling import tiles_wanted, tiling_options
from .options.types import Memory
from .printing.progress import progress_bar
from .printing.size_order import size_order
from .printing.terminal import echo, emit_json

__all__ = ["bench"]


class _Strategy(click.Choice):  # type: ignore[type-arg] # generic only since click 8.2
    """A strategy by its name. "exact" was the name of "strips"."""

    def __init__(self) -> None:
        super().__init__(STRATEGIES)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert("strips" if value == "exact" else value, param, ctx)


@click.command(epilog="Example: latentrt bench bundle --size 512x512 --dtype float32 --dtype bfloat16 --plot bench.png")
@click.argument("bundle", type=click.Path(path_type=Path))
@sizes_option("The size of the picture or clip; repeatable.  [default: 512x512, clips 256x256x17]")
@components_option("Measure")
@click.option(
    "--backend",
    "backends",
    multiple=True,
    type=click.Choice(BACKENDS),
    help="Only this backend; repeatable.  [default: all]",
)
@provider_option("Only this provider of ONNX Runtime.")
@click.option(
    "--dtype", "dtypes", multiple=True, type=click.Choice(DTYPES), help="Precision; repeatable.  [default: float32]"
)
@click.option(
    "--strategy",
    "strategies",
    multiple=True,
    type=_Strategy(),
    help="How calls run; repeatable. 'default' runs as a plain call does, 'stream' is for clips.  [default: "
    "default, and tiled with --tile, --overlap or --blend]",
)
@click.option("--warm", is_flag=True, help="Warm each size up first: OpenVINO compiles a model for it.")
@click.option(
    "--memory", type=Memory(), help="The most memory of a call, such as 8GiB. The planner chooses how to run."
)
@tiling_options
@batch_option
@threads_option
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="The number of timed calls.")
@click.option(
    "--markdown", type=click.Path(path_type=Path), help="Write the table and the machine's description to this file."
)
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the results to this .png or .svg.")
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
    """Measure how fast BUNDLE runs on every usable backend.

    A plain call ('default') is one pass if that surely fits into memory; otherwise it is planned. The table shows how
    the call ran. 'whole' is one pass at any size.

    Each case runs in a process of its own, one after the other. The first call is not counted. Of the --repeats calls
    after it the report shows the median, the fastest and the slowest, and the peak memory of the process on the host,
    without GPU memory. A size off the model's grid is padded, as `encode` pads it. `latentrt verify` shows how close
    the results are to the reference.
    """
    in_tiles = tiles_wanted(tile, overlap, blend, memory)  # refuses wrong usage before a case runs
    if in_tiles and strategies and "tiled" not in strategies:
        raise click.UsageError("--tile, --overlap and --blend are for --strategy tiled: give it too, or leave them out")
    if memory is not None and {"whole", "tiled"} & set(strategies):
        raise click.UsageError("--memory chooses how calls run: give it with --strategy default, stream or strips")
    if memory is not None and warm:
        raise click.UsageError("calls within --memory run in engines for every size: leave --warm out")
    if plot is not None:
        check_figure_file(plot)
    if markdown is not None:
        require_file(markdown)
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
    table = report.table()
    echo(*table.split("\n"))
    if order := size_order(table):
        echo(order)
    for row in skipped:
        echo(f"not measured: {row.what}: {row.reason}")
    for path in (markdown, plot):
        if path is not None:
            echo(f"{path}: written")
