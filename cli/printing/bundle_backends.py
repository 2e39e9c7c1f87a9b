"""What `latentrt doctor BUNDLE` says: the backend that a call takes, and why it takes no other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...export.sample_size import sample_size
from ...runtime.arrays.grid import Grid
from ...runtime.arrays.size_text import size_text
from ...runtime.backends.backend import Backend
from ...runtime.backends.choose import judged_backends
from ...runtime.bundle.manifest import Manifest
from ...runtime.calls.workload import Workload, most_bytes
from ...runtime.errors import EngineError
from ...runtime.system.budget import default_budget, memory_text
from .size_order import size_order

__all__ = ["bundle_lines", "bundle_report"]


def bundle_report(bundle: Path, dtype: str, size: Sequence[int] | None) -> dict[str, Any]:
    """Which backend a call of a bundle takes in a precision.

    Args:
        bundle: the folder.
        dtype: the precision of the computation.
        size: of the sample, (H, W) or (H, W, T), as --size gives it. None: of no particular size.

    Raises:
        BundleError: the bundle is damaged. InputError: the size is not one of the model.
    """
    manifest = Manifest.open(bundle)
    grid = Grid.of(manifest.config)
    sample = None if size is None else sample_size(size, manifest.family, grid)
    judged = judged_backends(manifest, dtype)
    *automatic, _ = judged
    chosen = next((one for one in automatic if one.backend is not None), None)
    rows = []
    for one in judged:
        reason = one.reason
        if chosen is not None and one is not chosen and one.backend is not None:
            reason = f"it can run, and auto takes {chosen.label} first"
            if one is judged[-1]:
                reason = "it can run, and auto never takes it, because it builds engines within calls"
        rows.append({"name": one.label, "usable": one.backend is not None, "reason": reason})
    call = None
    if chosen is not None and chosen.backend is not None and sample is not None:
        call = _call(manifest, chosen.backend, grid, sample)
    return {
        "path": str(manifest.folder),
        "family": manifest.family,
        "dtype": dtype,
        "size": None if sample is None else list(sample),
        "takes": None if chosen is None else chosen.label,
        "backends": rows,
        "call": call,
    }


def bundle_lines(report: dict[str, Any]) -> list[str]:
    """The report as text."""
    takes = report["takes"]
    what = f"a call in {report['dtype']} takes {takes}" if takes else f"no backend can run it in {report['dtype']}"
    lines = [f"{report['path']}: {report['family']}, {what}"]
    if report["call"] is not None:
        order = size_order(report["call"])
        lines.append(f"  {report['call']}{f'; {order}' if order else ''}")
    others = [row for row in report["backends"] if row["name"] != takes]
    return [*lines, *(f"  not {row['name']:<22} {row['reason']}" for row in others)]


def _call(manifest: Manifest, backend: Backend, grid: Grid, sample: Sequence[int]) -> str:
    """How a decode of a sample of that size, (H, W) or (T, H, W), runs on a backend without settings."""
    text = size_text(sample)
    cells = grid.latent_size(sample)
    component = "decoder" if "decoder" in manifest.components else "encoder"
    work = Workload(manifest.config, grid, component, 1, cells)
    if not backend.capabilities.any_size:
        graph = next(one for one in manifest.find_graphs(component) if one.dtype == backend.graph_dtype)
        channels = manifest.config.latent_channels if work.decodes else manifest.config.in_channels
        shape = (1, channels, *(cells if work.decodes else sample))
        try:
            profiles = backend.profiles(graph)
        except EngineError as error:
            return str(error)
        name = graph.inputs[0].name
        if not any(name in profile.ranges and profile.ranges[name].holds(shape) for profile in profiles):
            takes = "; or ".join(dict.fromkeys(map(str, profiles)))
            return f"{text}: no engine takes it whole; engines take {takes}: use tiles, or build for this size"
    if work.too_large is not None:
        return f"{text}: not in one pass, since {work.too_large}: use tiles, strips or a stream"
    if backend.device == "cpu" and most_bytes(work) > (budget := default_budget()):
        return f"{text}: planned before it runs, since it may not fit into {memory_text(budget)} (see latentrt plan)"
    return f"{text}: in one pass"
