"""`latentrt demo`: take the embedded models from checkpoint to pictures, in one command."""

from pathlib import Path

import click

from ..runtime.extras import require
from .options.common import as_json
from .printing.size_order import size_order
from .printing.terminal import echo, emit_json

__all__ = ["demo"]


@click.command(epilog="Example: latentrt demo demo")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@as_json
def demo(folder: Path, json_output: bool) -> None:
    """Export the embedded demo models and run samples through them.

    The samples are a picture and a clip. DIR then holds the models (diffusers folders), their bundles, the inputs, the
    latents, the reconstructions, and labelled side-by-side pictures and a clip.
    """
    for module, extra in (("torch", "export"), ("onnx", "export"), ("onnxruntime", "cpu"), ("PIL", "media")):
        require(module, extra=extra)
    require("av", extra="media")
    from ..export.demo.run import run_demo

    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if not json_output:
            echo(line)

    report = run_demo(folder, say)
    if json_output:
        emit_json(report)
    elif order := size_order(" ".join(said)):
        echo(order)
