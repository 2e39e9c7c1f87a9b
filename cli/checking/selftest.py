"""`latentrt selftest`: run a bundle's golden samples on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...runtime import open_bundle
from ..options.common import as_json, backend_options
from ..printing.terminal import echo, emit_json

if TYPE_CHECKING:
    from ...runtime.selftest.report import SelftestRow

__all__ = ["selftest"]

_HEAD = f"{'graph':<23}{'way':<9}{'sample':>6}{'PSNR dB':>9}{'wanted':>8}{'s':>8}  result"


@click.command(epilog="Example: latentrt selftest bundle --backend openvino --dtype bfloat16")
@click.argument("bundle", type=click.Path(path_type=Path))
@backend_options
@as_json
def selftest(bundle: Path, json_output: bool, **engine: Any) -> None:
    """Test the engines of BUNDLE against results that it holds.

    An export stores golden samples: small inputs, and the results of the PyTorch reference for them. This command runs
    them whole, as a stream and in strips. It needs neither torch nor the checkpoint. A result must reach 100 dB in
    float32, 60 dB in float16 and 45 dB in bfloat16. The exit code is 1 if one does not.

    Opening a bundle runs some of these samples too, before an engine is first used on this machine.
    """
    with open_bundle(bundle, selftest="never", **engine) as vae:
        report = vae.selftest()
        backend, dtype, digest = vae.backend, vae.dtype, vae.manifest.digest
    if json_output:
        emit_json({"backend": backend, "dtype": dtype, "digest": digest, **report.to_json()})
    else:
        echo(f"{backend}, {dtype}", _HEAD)
        for row in report.rows:
            echo(_line(row))
        failed = sum(not row.passed for row in report.rows if row.reason is None)
        ran = sum(row.reason is None for row in report.rows)
        if failed:
            verdict = f"{failed} of {ran} results differ from the reference"
        elif report.passed:
            verdict = f"{ran} results are those of the reference"
        else:
            verdict = "a component ran no sample"
        echo(f"{'passed' if report.passed else 'FAILED'}: {verdict}")
    if not report.passed:
        click.get_current_context().exit(1)


def _line(row: "SelftestRow") -> str:
    graph = row.component if row.causal is None else f"{row.component} causal={row.causal}"
    found = "-" if row.psnr_db is None else f"{row.psnr_db:.1f}"
    result = f"not tested: {row.reason}" if row.reason is not None else "passed" if row.passed else "FAILED"
    return f"{graph:<23}{row.way:<9}{row.sample:>6}{found:>9}{row.least_psnr_db:>8g}{row.seconds:>8.2f}  {result}"
