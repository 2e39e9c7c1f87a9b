"""`latentrt calibrate`: measure a bundle on this machine, so that the planner knows what calls take."""

from pathlib import Path
from typing import Any

import click

from .options import as_json, backend_options, components_option, emit_json, measuring_told, opened
from .terminal import echo

__all__ = ["calibrate"]

_IMAGE_SIZE = (1024, 1024)
_VIDEO_SIZE = (65, 512, 768)


@click.command(epilog="Example: latentrt calibrate bundle --backend openvino")
@click.argument("bundle", type=click.Path(path_type=Path))
@components_option("Measure")
@backend_options
@as_json
def calibrate(bundle: Path, components: tuple[str, ...], json_output: bool, **engine: Any) -> None:
    """Measure memory and time of small calls of BUNDLE, each in a process of its own, for the planner.

    The results are kept in the cache folder. That happens by itself where a plan needs a measurement that is not there
    yet. This does it beforehand; what a size of its own still needs is added when it is planned.
    """
    with opened(str(bundle), **engine) as vae, measuring_told(hidden=json_output):
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
    for point in report["points"]:
        size = "x".join(map(str, point["cells"]))
        echo(
            f"{point['component']:8} {point['strategy']:32} latents {size:12} "
            f"{point['peak_bytes'] / 2**20:8.1f} MiB {point['seconds']:8.3f} s"
        )
    echo(f"{calibration.measured} measured, {held} were there already: {calibration.path}")
