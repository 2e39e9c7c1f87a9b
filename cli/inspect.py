"""`latentrt inspect`: show what a bundle or a checkpoint holds."""

import itertools
import os
from pathlib import Path
from typing import Any

import click

from ..export.checkpoints import SourceOptions
from ..runtime.bundle.engine_records import EngineRecord
from ..runtime.bundle.manifest import MANIFEST_NAME, Manifest
from ..runtime.config.kl import MissingScalingFactor
from .options.common import as_json, source_options
from .terminal import echo, emit_json

__all__ = ["inspect"]

_MOST_UNLISTED = 100  # files in a report
_KINDS = {"whole": "", "stream": "for streams, ", "exact": "for strips, "}


@click.command(epilog="Example: latentrt inspect sd_xl_base_1.0.safetensors")
@click.argument("path", metavar="BUNDLE_OR_CHECKPOINT", type=click.Path())
@click.option(
    "--verify",
    "verify_hashes",
    is_flag=True,
    help="For a bundle: compare every SHA-256, and check which files the graphs read.",
)
@source_options
@as_json
def inspect(path: str, verify_hashes: bool, source_options: SourceOptions, json_output: bool) -> None:
    """Show what a bundle or a checkpoint holds, without loading it."""
    if (Path(path) / MANIFEST_NAME).is_file():
        manifest = Manifest.open(Path(path))
        if verify_hashes:
            manifest.verify_hashes()
            for record in manifest.engines:
                record.check_file(manifest.folder)
        report = {"kind": "bundle", "digest": manifest.digest, "hashes_verified": verify_hashes, **manifest.to_json()}
        report["unlisted_files"] = _unlisted_files(manifest)
        report["bytes"] = sum(file.size_bytes for file in manifest.files)
        lines = _bundle_lines(manifest, verify_hashes)
    else:
        report, lines = _checkpoint_report(path, source_options)
    if json_output:
        emit_json(report)
    else:
        echo(*lines)


def _bundle_lines(manifest: Manifest, verified: bool) -> list[str]:
    lines = [f"{manifest.folder}: bundle of an {manifest.family}", f"  digest {manifest.digest}"]
    lines += [*_config_lines(manifest.config.to_dict())]
    for graph in manifest.graphs:
        tensors = ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in (*graph.inputs, *graph.outputs))
        causal = "" if graph.causal is None else f", causal={graph.causal}"
        lines.append(f"  {graph.component:<8} {graph.file}: {graph.dtype}, opset {graph.opset}{causal}: {tensors}")
    for graph in manifest.streams:
        assert graph.stage is not None
        lines.append(
            f"  {graph.component:<8} {graph.file}: {graph.dtype}, opset {graph.opset}, stage {graph.stage.index} of a "
            f"stream, {len(graph.outputs) - 1} states, first chunk of {graph.stage.lead} frames"
        )
    lines += [f"  {f.size_bytes / 1e6:>10.2f} MB  {f.name}  sha256 {f.sha256[:16]}" for f in manifest.files]
    lines += [f"  {name}: not in the manifest, so nothing reads it" for name in _unlisted_files(manifest)]
    checked_text = "every hash is right, and every graph reads its own weights file only"
    lines.append(f"  {checked_text}" if verified else "  sizes are right (--verify reads every byte)")
    for file, kept in (manifest.ranges or {}).get("kept_in_float32", {}).items():
        lines.append(f"  range checked: {file} keeps {len(kept)} tensors in float32")
    for record in manifest.engines:
        memory = record.activation_bytes
        needs = "" if memory is None else f", {memory / 2**20:.0f} MiB of activations"
        lines.append(
            f"  {record.component:<8} {record.file}: {record.backend} {record.library_version}, {record.dtype}, "
            f"{_KINDS[record.kind]}"
            f"compute capability {', '.join(record.compute_capabilities)}, {record.bytes / 1e6:.1f} MB"
            f"{_weights_text(record)}{needs}"
        )
        lines += [f"           {profile}" for profile in record.profiles]
    checked = manifest.verification
    if checked is None:
        lines.append("  not verified against the reference yet (run latentrt verify)")
    else:
        verdict = "passed" if checked["passed"] else "failed"
        missing = [f"{row['backend']} {row['dtype']}" for row in checked.get("not_compared") or ()]
        left_out = f", not compared: {', '.join(dict.fromkeys(missing))}" if missing else ""
        worst = checked["worst_psnr_db"]  # None: a result held NaN or infinity, for which JSON has no number
        text = "results that are not finite" if worst is None else f"worst PSNR {worst:.1f} dB"
        lines.append(f"  verification {verdict}: {text}{left_out}")
    return lines


def _unlisted_files(manifest: Manifest) -> list[str]:
    """The files in the folder that the manifest does not name, at most a hundred. Nothing reads them."""
    known = {MANIFEST_NAME, *(file.name for file in manifest.files), *(record.file for record in manifest.engines)}
    paths = (Path(parent) / name for parent, _, names in os.walk(manifest.folder) for name in names)
    names = (path.relative_to(manifest.folder).as_posix() for path in paths)
    return sorted(itertools.islice((name for name in names if name not in known), _MOST_UNLISTED))


def _weights_text(record: EngineRecord) -> str:
    left_out = f" without {record.stripped_bytes / 1e6:.1f} MB of weights" if record.stripped_bytes else ""
    return f"{left_out}, takes the weights of any bundle with its graph" if record.takes_any_weights else left_out


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
        *_statistics_lines(config),
    ]
    lines += [f"  {name}: missing; export needs --{name.replace('_', '-')}" for name in absent]
    lines += [f"  {missing}"] if missing else []
    return report, lines


def _statistics_lines(config: dict[str, Any]) -> list[str]:
    return [
        f"  {name}: {len(values)} channels, {min(values):.4g} to {max(values):.4g}"
        for name in ("latents_mean", "latents_std")
        if (values := config.get(name)) is not None
    ]


def _config_lines(config: dict[str, Any]) -> list[str]:
    hidden = {"_class_name", "latents_mean", "latents_std"}
    return [f"  {key}: {value}" for key, value in config.items() if key not in hidden and value is not None]
