"""`latentrt inspect`: show what a bundle or a checkpoint holds."""

from pathlib import Path
from typing import Any

import click

from ..export.checkpoints import SourceOptions
from ..runtime.bundle.manifest import MANIFEST_NAME, Manifest
from ..runtime.config.kl import MissingScalingFactor
from .options.common import as_json, source_options
from .options.types import Capability
from .printing.bundle_summary import file_lines, labelled, statistics_of, summary_lines, unlisted_files
from .printing.engines_for_gpu import engines_for, lines_for
from .printing.terminal import echo, emit_json

__all__ = ["inspect"]

_MOST_ENTRIES = 8  # numbers of a list in a summary


@click.command(epilog="Example: latentrt inspect sd_xl_base_1.0.safetensors")
@click.argument("path", metavar="BUNDLE_OR_CHECKPOINT", type=click.Path())
@click.option(
    "--verify",
    "verify_hashes",
    is_flag=True,
    help="For a bundle: compare every SHA-256, and check which files the graphs read.",
)
@click.option("--files", is_flag=True, help="For a bundle: list the graphs, the files and the engines.")
@click.option(
    "--for",
    "compute_capability",
    type=Capability(),
    help="For a bundle: the engines that run on GPUs with this compute capability. Exit with 1 if none does.",
)
@source_options
@as_json
def inspect(
    path: str,
    verify_hashes: bool,
    files: bool,
    compute_capability: str | None,
    source_options: SourceOptions,
    json_output: bool,
) -> None:
    """Show what a bundle or a checkpoint holds, without loading it.

    The summary fits a screen. --files adds the lists, and --json has everything.
    """
    if compute_capability is not None:
        _show_engines(Path(path), compute_capability, json_output)
        return
    if (Path(path) / MANIFEST_NAME).is_file():
        manifest = Manifest.open(Path(path))
        if verify_hashes:
            manifest.verify_hashes()
            for record in manifest.engines:
                record.check_file(manifest.folder)
        report = {"kind": "bundle", "digest": manifest.digest, "hashes_verified": verify_hashes, **manifest.to_json()}
        report["unlisted_files"] = unlisted_files(manifest)
        report["bytes"] = sum(file.size_bytes for file in manifest.files)
        lines = [
            *summary_lines(manifest, verified=verify_hashes, listed=files),
            *(file_lines(manifest) if files else ()),
        ]
    else:
        report, lines = _checkpoint_report(path, source_options)
    if json_output:
        emit_json(report)
    else:
        echo(*lines)


def _show_engines(bundle: Path, compute_capability: str, json_output: bool) -> None:
    report = engines_for(Manifest.open(bundle), compute_capability)
    emit_json(report) if json_output else echo(*lines_for(report))
    if not report["runs"]:
        click.get_current_context().exit(1)


def _checkpoint_report(path: str, options: SourceOptions) -> tuple[dict[str, Any], list[str]]:
    from ..export.checkpoints import open_checkpoint

    missing = ""
    absent: tuple[str, ...] = ()
    try:
        checkpoint = open_checkpoint(path, options=options)
    except MissingScalingFactor as error:  # only an export needs these numbers
        missing, absent = str(error), error.fields
        stand_ins = {"scaling_factor": 1.0, "shift_factor": None}
        checkpoint = open_checkpoint(path, {name: stand_ins[name] for name in absent}, options)
    checkpoint = checkpoint.with_statistics()
    config = checkpoint.config.to_dict() | dict.fromkeys(absent)
    dtypes = sorted({tensor.dtype for tensor in checkpoint.tensors.values()})
    report = {
        "kind": "checkpoint",
        "family": checkpoint.config.family,
        "variant": checkpoint.variant,
        "format": checkpoint.format,
        "notes": [*checkpoint.notes, *filter(None, [missing])],
        "config": config,
        "parameters": checkpoint.parameter_count,
        "tensors": len(checkpoint.tensors),
        "dtypes": dtypes,
    }
    name = f"{checkpoint.config.family}{f' ({checkpoint.variant})' if checkpoint.variant else ''}"
    lines = [
        f"{path}: checkpoint of an {name}",
        f"  {checkpoint.format}",
        f"  {checkpoint.parameter_count:,} parameters in {len(checkpoint.tensors)} tensors ({', '.join(dtypes)})",
        *_config_lines(config),
    ]
    lines += [f"  {name}: missing; export needs --{name.replace('_', '-')}" for name in absent]
    lines += [f"  {missing}"] if missing else []
    return report, lines


def _config_lines(config: dict[str, Any]) -> list[str]:
    """The config as one paragraph. Statistics of the latents have a line of their own."""
    hidden = {"_class_name", "latents_mean", "latents_std"}
    fields = {key: value for key, value in config.items() if key not in hidden and value is not None}
    text = "; ".join(f"{key}: {_value_text(value)}" for key, value in fields.items())
    return [*labelled("config", text), *labelled("latents", statistics_of(config))]


def _value_text(value: Any) -> str:
    """A value of a config. A list of equal entries is written once, with their number."""
    if isinstance(value, list | tuple) and len(value) > 1 and all(one == value[0] for one in value):
        return f"{len(value)} x {value[0]}"
    if isinstance(value, list | tuple) and len(value) > _MOST_ENTRIES and all(isinstance(one, float) for one in value):
        return f"{len(value)} numbers of {min(value):.4g} to {max(value):.4g}"
    return str(value)
