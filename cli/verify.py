"""`latentrt verify`: compare every backend with the PyTorch reference."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..export.checkpoints import SourceOptions
from ..runtime import open_bundle
from ..runtime.arrays.kinds import DTYPES, Dtype
from ..runtime.arrays.size_text import size_text
from ..runtime.backends.choose import BACKENDS
from ..runtime.backends.names import BackendName, ProviderName
from ..runtime.extras import require
from .options.common import as_json, provider_option, source_options, threads_option
from .options.tiling import TILED_BLENDS, enable_tiling, tiling_options
from .printing.size_order import size_order
from .printing.terminal import echo, emit_json

if TYPE_CHECKING:
    from ..export import Comparison

__all__ = ["verify"]

_HEAD = (
    f"{'backend':<18}{'dtype':<9}{'graph':<21}{'strategy':<9}{'input':<18}{'shape':<24}{'max abs':>10}{'relative':>10}"
    f"{'PSNR dB':>9}{'s':>8}{'torch s':>9}"
)
_TILING_HEAD = (
    f"{'sample':<18}{'graph':<9}{'blend':<11}{'tiles':<9}{'work':>6}{'PSNR dB':>9}{'seam':>7}{'whole s':>9}"
    f"{'tiled s':>9}"
)


@click.command(epilog="Example: latentrt verify bundle --source path/to/vae --samples photo.png")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--source", type=click.Path(), help="The checkpoint that the bundle was exported from.")
@click.option(
    "--samples",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Your own pictures or clips, or a folder of them; repeatable.",
)
@click.option(
    "--min-psnr",
    type=float,
    help="Exit with 1 if a PSNR is below this, in dB.  [default: 100 in float32, 60 in float16, 45 in bfloat16]",
)
@click.option("--tiling", is_flag=True, help="Compare tiled results with whole results instead; needs no --source.")
@tiling_options
@click.option(
    "--draw",
    type=click.Path(path_type=Path),
    help="With --tiling: draw the whole result, the tiled result, and 8 times the difference.",
)
@click.option(
    "--max-frames", type=click.IntRange(min=1), help="Cut clips to this many frames.  [default: 17; 49 with --tiling]"
)
@click.option("--backend", type=click.Choice(BACKENDS), default="auto", help="Only this backend.  [default: all]")
@provider_option("Only this provider of ONNX Runtime.")
@click.option("--dtype", type=click.Choice(DTYPES), help="Only this precision.")
@threads_option
@source_options
@as_json
def verify(
    bundle: Path,
    source: str | None,
    samples: tuple[Path, ...],
    min_psnr: float | None,
    tiling: bool,
    tile: tuple[int, ...] | None,
    overlap: tuple[int, ...] | None,
    blend: str | None,
    draw: Path | None,
    max_frames: int | None,
    backend: BackendName,
    provider: ProviderName | None,
    dtype: Dtype | None,
    threads: int | None,
    source_options: SourceOptions,
    json_output: bool,
) -> None:
    """Compare BUNDLE on every backend with the PyTorch reference.

    Encoder and decoder run at several sizes on random arrays and latents, and on your own samples. They run in a single
    pass ('whole'); clips also as a 'stream', and as a plain call if that runs in another way ('default'); pictures also
    in 'strips'. Engines run at the sizes that they were built for. PSNR takes the reference's range as its peak. The
    bundle keeps the last result of each backend in each precision, and `latentrt inspect` shows them.

    With --tiling each backend's tiled results are compared with its own whole results instead, on your samples or on a
    drawn sample, for --blend or for every blend. The report shows PSNR, the cost of the tiles, and how much their
    borders stand out (1: not at all). The tiles are 256x256 pixels, and 24 frames, unless --tile gives another size.
    """
    if tiling:
        if source is not None:
            raise click.UsageError("--tiling compares the bundle with itself: leave --source out")
        engine = {"backend": backend, "provider": provider, "dtype": dtype or "float32", "threads": threads}
        _verify_tiling(bundle, engine, samples, max_frames or 49, (tile, overlap, blend), draw, json_output)
        return
    if source is None:
        raise click.UsageError("--source is missing: the checkpoint that the bundle was exported from")
    if any(option is not None for option in (tile, overlap, blend, draw)):
        raise click.UsageError("--tile, --overlap, --blend and --draw go with --tiling")
    require("torch", extra="export")
    from ..export import VerifySettings, verify_bundle

    rows = 0

    def on_row(row: "Comparison") -> None:
        nonlocal rows
        if not rows:  # without any row there is no table
            echo(_HEAD)
        rows += 1
        _print_row(row)

    settings = VerifySettings(
        samples=samples,
        max_frames=max_frames or 17,
        min_psnr_db=min_psnr,
        backend=backend,
        provider=provider,
        threads=threads,
        dtype=dtype,
        source=source_options,
    )
    report = verify_bundle(bundle, source, settings, None if json_output else on_row)
    if json_output:
        emit_json(report.to_json())
    else:
        for missing in report.not_compared:
            echo(f"not compared: {missing.backend}, {missing.dtype}: {missing.reason}")
        verdict = "passed" if report.passed else "FAILED"
        worst = (f"{report.worst_of(one):.1f} dB in {one}, wanted {report.wanted_db(one):g}" for one in report.dtypes)
        echo(f"{verdict}: the worst PSNR is {'; '.join(worst)}")
    if not report.passed:
        click.get_current_context().exit(1)


def _verify_tiling(
    bundle: Path,
    engine: dict[str, Any],
    samples: tuple[Path, ...],
    max_frames: int,
    options: tuple[tuple[int, ...] | None, tuple[int, ...] | None, str | None],
    draw: Path | None,
    json_output: bool,
) -> None:
    from ..export.verify.tiling_quality import compare_tiling

    tile, overlap, blend = options
    with open_bundle(bundle, **engine) as vae:
        if tile is None:
            tile, overlap = ((256, 256, 24), (64, 64, 8)) if vae.video else ((256, 256), (64, 64))
        blends = [blend] if blend else [name for name in TILED_BLENDS if vae.video or name != "ltx2"]
        settings = [(name, partial(enable_tiling, vae, tile, overlap, name)) for name in blends]
        if not json_output:
            echo(_TILING_HEAD)
        rows = []
        for row in compare_tiling(vae, settings, samples=samples, max_frames=max_frames, draw=draw):
            rows.append(row.to_json())
            if not json_output:
                tiles = size_text(row.tiles)
                echo(
                    f"{row.sample[:17]:<18}{row.component:<9}{row.blend:<11}{tiles:<9}{row.work:>6.2f}"
                    f"{row.psnr_db:>9.1f}{row.seam:>7.2f}{row.whole_seconds:>9.2f}{row.tiled_seconds:>9.2f}"
                )
    if json_output:
        emit_json({"comparisons": rows, "drawing": draw})
        return
    if order := size_order(" ".join(size_text(row["tiles"]) for row in rows)):
        echo(f"tiles are counted {order.removeprefix('sizes are ')}")
    if draw is not None:
        echo(f"{draw}: whole, tiled ({blends[0]}), and 8 times their difference")


def _print_row(row: "Comparison") -> None:
    graph = row.component if row.causal is None else f"{row.component} causal={row.causal}"
    shape = str(tuple(row.shape))
    echo(
        f"{row.backend:<18}{row.dtype:<9}{graph:<21}{row.strategy:<9}{row.sample[:17]:<18}{shape:<24}{row.max_abs:>10.2e}"
        f"{row.relative:>10.2e}{row.psnr_db:>9.1f}{row.seconds:>8.2f}{row.reference_seconds:>9.2f}"
    )
