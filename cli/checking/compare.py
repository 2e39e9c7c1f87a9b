"""`latentrt compare`: backends and precisions of one bundle against each other."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...export.figures.figure_file import check_figure_file
from ...runtime.arrays.kinds import DTYPES, Dtype
from ...runtime.backends.choose import BACKENDS
from ...runtime.backends.names import BackendName, ProviderName
from ..options.common import as_json, provider_option, threads_option
from ..printing.terminal import echo, emit_json

if TYPE_CHECKING:
    from ...export.verify.backend_differences import BackendDifference

__all__ = ["compare"]

_HEAD = (
    f"{'backend':<18}{'dtype':<9}{'graph':<9}{'sample':<18}{'shape':<24}{'max abs':>10}{'relative':>10}{'PSNR dB':>9}"
    f"{'wanted':>8}{'reference':>11}{'s':>8}"
)


@click.command(
    epilog="Example: latentrt compare bundle --backend onnxruntime --backend openvino --plot differences.png"
)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--backend",
    "backends",
    multiple=True,
    type=click.Choice([name for name in BACKENDS if name != "auto"]),
    help="Compare this backend; repeatable. The first is the one that the others are compared with.  [default: all]",
)
@provider_option("The provider of ONNX Runtime.")
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    type=click.Choice(DTYPES),
    help="Compare this precision; repeatable.  [default: float32]",
)
@click.option(
    "--samples",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Your own pictures or clips, or a folder of them; repeatable.  [default: the golden samples of the bundle]",
)
@click.option(
    "--max-frames", type=click.IntRange(min=1), default=17, show_default=True, help="Cut clips to this many frames."
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    help="Draw a decoded sample on each backend, and the differences, to this .png or .svg.",
)
@threads_option
@as_json
def compare(
    bundle: Path,
    backends: tuple[BackendName, ...],
    provider: ProviderName | None,
    dtypes: tuple[Dtype, ...],
    samples: tuple[Path, ...],
    max_frames: int,
    plot: Path | None,
    threads: int | None,
    json_output: bool,
) -> None:
    """Compare the backends and precisions of BUNDLE with each other.

    Encoder and decoder run on the golden samples of the bundle, or on your own, in a single pass. Every backend is
    compared with the first one, in each precision. With golden samples, the column 'reference' shows the PSNR against
    the PyTorch reference. It needs neither torch nor the checkpoint.

    PSNR takes the range of the first backend's result as its peak. Wanted are 100 dB, and 60 dB or 45 dB where one of
    the two runs in float16 or bfloat16. The exit code is 1 if a result does not reach that.
    """
    if plot is not None:
        check_figure_file(plot)
    from ...export.verify.backend_comparison import compare_backends

    report = compare_backends(
        bundle,
        backends=backends,
        provider=provider,
        dtypes=dtypes or ("float32",),
        threads=threads,
        samples=samples,
        max_frames=max_frames,
        plot=plot,
    )
    if json_output:
        emit_json(report.to_json())
    else:
        echo(f"compared with {report.base}", _HEAD)
        for row in report.rows:
            echo(_line(row))
        for label, reason in report.not_compared:
            echo(f"not compared: {label}: {reason}")
        echo(f"{'passed' if report.passed else 'FAILED'}: the worst PSNR is {report.worst_psnr_db:.1f} dB")
        if plot is not None:
            echo(f"{plot}: written")
    if not report.passed:
        click.get_current_context().exit(1)


def _line(row: "BackendDifference") -> str:
    reference = "-" if row.reference_psnr_db is None else f"{row.reference_psnr_db:.1f}"
    return (
        f"{row.backend:<18}{row.dtype:<9}{row.component:<9}{row.sample[:17]:<18}{row.shape!s:<24}{row.max_abs:>10.2e}"
        f"{row.relative:>10.2e}{row.psnr_db:>9.1f}{row.least_psnr_db:>8g}{reference:>11}{row.seconds:>8.2f}"
    )
