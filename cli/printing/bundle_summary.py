"""What `latentrt inspect` shows of a bundle: a summary that fits a screen, and the lists of its files and engines."""

import itertools
import os
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ...runtime.arrays.grid import Grid
from ...runtime.bundle.engine_records import EngineRecord
from ...runtime.bundle.manifest import MANIFEST_NAME, Manifest

__all__ = ["file_lines", "labelled", "statistics_of", "summary_lines", "unlisted_files"]

_COLUMNS = 80
_LABEL = 11  # columns of a label and the space after it
_MOST_UNLISTED = 100  # files in a report
_MOST_NAMED = 3  # files or engines in the summary
_REVISION_DIGITS = 12  # of a commit in the summary; --files has all
_KINDS = {"whole": "", "stream": "for streams, ", "exact": "for strips, "}


def summary_lines(manifest: Manifest, *, verified: bool, listed: bool) -> list[str]:
    """The summary: source, components, sizes, files, engines and verification.

    Args:
        manifest: of the bundle.
        verified: whether every byte of the files was compared.
        listed: whether the lists of `file_lines` follow, which name the engines.
    """
    lines = [f"{manifest.folder}: bundle of an {manifest.family}", f"  digest {manifest.digest}"]
    lines += labelled("exported", _source_text(manifest))
    lines += labelled("licence", _licence_text(manifest))
    lines += _component_lines(manifest)
    lines += labelled("sizes", _sizes_text(manifest))
    lines += labelled("latents", _latents_text(manifest))
    total = sum(file.size_bytes for file in manifest.files)
    lines += labelled("files", f"{len(manifest.files)} files, {total / 1e6:.1f} MB (--files lists them)")
    checked = "every hash is right, and every graph reads its own weights file only"
    lines += labelled("", checked if verified else "sizes are right (--verify reads every byte)")
    unlisted = unlisted_files(manifest)
    lines += [f"  {name}: not in the manifest, so nothing reads it" for name in unlisted[:_MOST_NAMED]]
    if len(unlisted) > _MOST_NAMED:
        lines += labelled("", f"and {len(unlisted) - _MOST_NAMED} more that nothing reads")
    for file, kept in (manifest.ranges or {}).get("kept_in_float32", {}).items():
        lines.append(f"  range checked: {file} keeps {len(kept)} tensors in float32")
    for record in () if listed else manifest.engines[:_MOST_NAMED]:
        lines += labelled("engine", _engine_text(record))
    if not listed and len(manifest.engines) > _MOST_NAMED:
        lines += labelled("", f"and {len(manifest.engines) - _MOST_NAMED} engines more (--files lists them)")
    return lines + _verification_lines(manifest)


def file_lines(manifest: Manifest) -> list[str]:
    """The graphs with their tensors, the files with their hashes, and the engines with their profiles."""
    lines = ["Graphs"]
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
    lines.append("Files")
    lines += [f"  {f.size_bytes / 1e6:>10.2f} MB  {f.name}  sha256 {f.sha256[:16]}" for f in manifest.files]
    lines += [f"  {name}: not in the manifest, so nothing reads it" for name in unlisted_files(manifest)]
    if manifest.source is not None:
        at = f" at {manifest.source.revision}" if manifest.source.revision else ""
        lines.append(f"Source {manifest.source.name}{at}")
        lines += [f"  {f.size_bytes / 1e6:>10.2f} MB  {f.name}  sha256 {f.sha256}" for f in manifest.source.files]
    if manifest.engines:
        lines.append("Engines")
    for record in manifest.engines:
        lines.append(f"  {_engine_text(record)}")
        lines += [f"           {profile}" for profile in record.profiles]
    return [*lines, *_verification_details(manifest)]


def unlisted_files(manifest: Manifest) -> list[str]:
    """The files in the folder that the manifest does not name, at most a hundred. Nothing reads them."""
    known = {MANIFEST_NAME, *(file.name for file in manifest.files), *(record.file for record in manifest.engines)}
    paths = (Path(parent) / name for parent, _, names in os.walk(manifest.folder) for name in names)
    names = (path.relative_to(manifest.folder).as_posix() for path in paths)
    return sorted(itertools.islice((name for name in names if name not in known), _MOST_UNLISTED))


def labelled(label: str, text: str) -> list[str]:
    """A label and its text, in lines of at most 80 columns."""
    first, further = f"  {label:<{_LABEL}}", " " * (2 + _LABEL)
    return textwrap.wrap(text, _COLUMNS, initial_indent=first, subsequent_indent=further, break_on_hyphens=False)


def statistics_of(config: dict[str, Any]) -> str:
    """The numbers between model latents and diffusion latents, as text."""
    factors = [f"{name} {config[name]}" for name in ("scaling_factor", "shift_factor") if config.get(name) is not None]
    statistics = {name: config[name] for name in ("latents_mean", "latents_std") if config.get(name) is not None}
    ranges = (f"{name} of {min(values):.4g} to {max(values):.4g}" for name, values in statistics.items())
    return ", ".join([*factors, *ranges])


def _source_text(manifest: Manifest) -> str:
    produced, source = manifest.produced_by, manifest.source
    when = f"{str(produced['date'])[:16].replace('T', ' ')} UTC " if produced.get("date") else ""
    kind = ", ".join(str(produced[key]) for key in ("format", "variant") if produced.get(key))
    name = produced.get("source") if source is None else source.name
    at = f" at {source.revision[:_REVISION_DIGITS]}" if source is not None and source.revision else ""
    origin = f"from {name}{at} ({kind}) " if name else ""
    return f"{when}{origin}by latentrt {produced.get('latentrt') or 'of an unknown version'}"


def _licence_text(manifest: Manifest) -> str:
    stated = None if manifest.source is None else manifest.source.licence
    return stated or "not known (latentrt export --license states it)"


def _component_lines(manifest: Manifest) -> list[str]:
    rows = [("component", "precision", "causal", "streams", "strips")]
    for component in manifest.components:
        graphs = manifest.find_graphs(component)
        causal = dict.fromkeys(str(graph.causal) for graph in graphs if graph.causal is not None)
        rows.append(
            (
                component,
                ", ".join(dict.fromkeys(graph.dtype for graph in graphs)),
                ", ".join(causal) or "-",
                _steps(manifest.streams, component),
                _steps(manifest.strip_graphs, component),
            )
        )
    return _table(rows)


def _steps(graphs: Sequence[Any], component: str) -> str:
    """How many graphs run the component in steps, in which precisions."""
    own = [graph for graph in graphs if graph.component == component]
    dtypes = dict.fromkeys(graph.dtype for graph in own)
    return f"{len(own) // len(dtypes)} steps, {', '.join(dtypes)}" if own else "-"


def _sizes_text(manifest: Manifest) -> str:
    grid = Grid.of(manifest.config)
    smallest = grid.spatial * max(grid.encoder_minimum, grid.decoder_minimum)
    frames = f"; 1 + a multiple of {grid.temporal} frames" if grid.video else ""
    return f"height and width: multiples of {grid.spatial}, at least {smallest}{frames}"


def _latents_text(manifest: Manifest) -> str:
    config = manifest.config
    channels = f"{config.latent_channels} channels for {config.in_channels} of a sample"
    return ", ".join(filter(None, [channels, statistics_of(config.to_dict())]))


def _engine_text(record: EngineRecord) -> str:
    memory = record.activation_bytes
    needs = "" if memory is None else f", {memory / 2**20:.0f} MiB of activations"
    left_out = f" without {record.stripped_bytes / 1e6:.1f} MB of weights" if record.stripped_bytes else ""
    shared = ", takes the weights of any bundle with its graph" if record.takes_any_weights else ""
    return (
        f"{record.component} {record.file}: {record.backend} {record.library_version}, {record.dtype}, "
        f"{_KINDS[record.kind]}compute capability {', '.join(record.compute_capabilities)}, "
        f"{record.bytes / 1e6:.1f} MB{left_out}{shared}{needs}"
    )


def _verification_lines(manifest: Manifest) -> list[str]:
    """A table with one row for each backend and precision: the worst PSNR of each component, and when it was found."""
    records = manifest.verifications
    if not records:
        return ["  not verified against the reference yet (run latentrt verify)"]
    components = [name for name in ("encoder", "decoder") if any(one.worst_of(name) is not None for one in records)]
    rows = [("verified", "precision", *(f"{name} dB" for name in components), "wanted", "", "date")]
    for one in records:
        found = (_decibels(one.worst_of(name)) for name in components)
        state = "passed" if one.passed else "failed"
        rows.append((one.backend, one.dtype, *found, f"{one.min_psnr_db:g}", state, (one.date or "-")[:10]))
    return _table(rows)


def _verification_details(manifest: Manifest) -> list[str]:
    """For each record of a verification: the date, the versions, the samples, and the reasons for what is missing."""
    lines = []
    for one in manifest.verifications:
        versions = ", ".join(f"{name} {version or '(unknown)'}" for name, version in one.versions.items())
        parts = [one.date or "", versions, f"samples: {', '.join(one.samples)}" if one.samples else ""]
        lines += labelled("verified", "; ".join([f"{one.backend} {one.dtype}", *filter(None, parts)]))
        lines += [line for reason in one.not_compared for line in labelled("", f"not compared: {reason}")]
    return lines


def _decibels(value: float | None) -> str:
    return "-" if value is None else "not finite" if value == -float("inf") else f"{value:.1f}"


def _table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
