"""`latentrt verify`: how far every backend is from the PyTorch reference."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...runtime.extras import require
from ..checkpoints import SourceOptions
from .options import as_json, emit_json, source_options

if TYPE_CHECKING:
    from ..parity import Comparison

__all__ = ["verify"]

_HEAD = (
    f"{'backend':<18}{'dtype':<9}{'graph':<20}{'input':<18}{'shape':<24}{'max abs':>10}{'relative':>10}{'PSNR dB':>9}"
    f"{'s':>8}{'torch s':>9}"
)


@click.command(epilog="Example: latentrt verify bundle --source path/to/vae --samples photo.png")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--source", required=True, type=click.Path(path_type=Path), help="The checkpoint it was exported from.")
@click.option(
    "--samples",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Your own pictures or clips, or a folder of them; repeatable.",
)
@click.option("--min-psnr", type=float, default=45.0, show_default=True, help="Exit with 1 below this, in dB.")
@click.option("--max-frames", type=click.IntRange(min=1), default=17, show_default=True, help="Cut clips to this.")
@click.option("--backend", type=click.Choice(["auto", "onnxruntime"]), default="auto", help="Only this one.")
@click.option("--provider", type=click.Choice(["cpu", "cuda", "tensorrt"]), help="Only this one.")
@click.option("--dtype", help="Only this precision.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of one engine call.")
@source_options
@as_json
def verify(
    bundle: Path,
    source: Path,
    samples: tuple[Path, ...],
    min_psnr: float,
    max_frames: int,
    backend: str,
    provider: str | None,
    dtype: str | None,
    threads: int | None,
    source_options: SourceOptions,
    json_output: bool,
) -> None:
    """Compare BUNDLE on every backend that can run here with the PyTorch reference.

    Encoder and decoder run at several sizes on random arrays and latents, and on your own samples. PSNR takes the
    reference's range as its peak. The result is stored in the bundle.
    """
    require("torch", extra="export")
    from ..parity import verify_bundle

    if not json_output:
        click.echo(_HEAD)
    report = verify_bundle(
        bundle,
        source,
        samples=samples,
        max_frames=max_frames,
        min_psnr_db=min_psnr,
        backend=backend,
        provider=provider,
        threads=threads,
        dtype=dtype,
        source_options=source_options,
        on_row=None if json_output else _print_row,
    )
    if json_output:
        emit_json(report.to_json())
    else:
        verdict = "passed" if report.passed else "FAILED"
        click.echo(f"{verdict}: the worst PSNR is {report.worst_psnr_db:.1f} dB, wanted {min_psnr:g}")
    if not report.passed:
        click.get_current_context().exit(1)


def _print_row(row: "Comparison") -> None:
    graph = row.component if row.causal is None else f"{row.component} causal={row.causal}"
    shape = "x".join(map(str, row.shape))
    click.echo(
        f"{row.backend:<18}{row.dtype:<9}{graph:<20}{row.sample[:17]:<18}{shape:<24}{row.max_abs:>10.2e}"
        f"{row.relative:>10.2e}{row.psnr_db:>9.1f}{row.seconds:>8.2f}{row.reference_seconds:>9.2f}"
    )
