"""`latentrt convert`: convert any checkpoint to a diffusers folder."""

from pathlib import Path
from typing import Any

import click

from ..export.checkpoints import SourceOptions
from .options.common import as_json, scaling_options, source_options
from .printing.progress import progress_bar
from .printing.terminal import echo, emit_json

__all__ = ["convert"]


@click.command(epilog="Example: latentrt convert ae.safetensors flux-vae")
@click.argument("source", type=click.Path())
@click.argument("folder", type=click.Path(path_type=Path))
@scaling_options
@source_options
@as_json
def convert(
    source: str, folder: Path, overrides: dict[str, Any], source_options: SourceOptions, json_output: bool
) -> None:
    """Convert the checkpoint SOURCE to the diffusers folder FOLDER.

    SOURCE is any source that `latentrt export` takes. The command needs no PyTorch. The folder holds float32 weights,
    and exists only if the whole conversion succeeded.
    """
    from ..export import ConvertSettings, convert_checkpoint

    with progress_bar("Converting", hidden=json_output) as update:
        report = convert_checkpoint(source, folder, ConvertSettings(overrides, source_options), update)
    if json_output:
        emit_json(report.to_json())
        return
    name = f"{report.config.family}{f' ({report.variant})' if report.variant else ''}"
    echo(f"{folder}: {name}, {report.tensors} tensors, {report.size_bytes / 1e6:.1f} MB")
