"""`latentrt calibrate`: measure a bundle on this machine for the planner."""

from pathlib import Path
from typing import Any

import click

from ..runtime import open_bundle
from ..runtime.arrays.size_text import size_text
from .options.common import as_json, backend_options, components_option
from .printing.progress import calibration_notice
from .printing.size_order import size_order
from .printing.terminal import echo, emit_json

__all__ = ["calibrate"]

_IMAGE_SIZE = (1024, 1024)
_VIDEO_SIZE = (65, 512, 768)


@click.command(epilog="Example: latentrt calibrate bundle --backend openvino")
@click.argument("bundle", type=click.Path(path_type=Path))
@components_option("Measure")
@backend_options
@as_json
def calibrate(bundle: Path, components: tuple[str, ...], json_output: bool, **engine: Any) -> None:
    """Measure small calls of BUNDLE for the planner.

    Memory and time of each call are measured in a process of its own, and kept in the cache folder. A plan takes the
    measurements that it needs by itself; this command takes them beforehand. A plan for another size may add some more.
    """
    with open_bundle(bundle, **engine) as vae, calibration_notice(hidden=json_output):
        calibration = vae.calibrate(vae.grid.padded_size(_VIDEO_SIZE if vae.video else _IMAGE_SIZE), components)
        held = calibration.count - calibration.measured
        report = {
            "engine": calibration.identity["engine"],
            "held_before": held,
            "measured": calibration.measured,
            "file": str(calibration.path),
            "points": calibration.to_json(),
        }
    if json_output:
        emit_json(report)
        return
    sizes = [size_text(point["cells"]) for point in report["points"]]
    for point, size in zip(report["points"], sizes, strict=True):
        echo(
            f"{point['component']:8} {point['strategy']:32} latents {size:12} "
            f"{point['peak_bytes'] / 2**20:8.1f} MiB {point['seconds']:8.3f} s"
        )
    if order := size_order(" ".join(sizes)):
        echo(f"{order}, in latent cells")
    echo(f"{calibration.measured} measured now, {held} measured before: {calibration.path}")
