"""What `latentrt inspect BUNDLE --for 8.9` says: which engines run on GPUs with a compute capability."""

from typing import Any

from ...runtime.bundle.engine_records import EngineRecord
from ...runtime.bundle.manifest import Manifest

__all__ = ["engines_for", "lines_for"]

_KINDS = {"whole": "whole samples", "stream": "streams", "exact": "strips"}


def engines_for(manifest: Manifest, compute_capability: str) -> dict[str, Any]:
    """The engines of a bundle by whether they run on a GPU.

    Args:
        manifest: of the bundle.
        compute_capability: of the GPU, such as "8.9".
    """
    here = [record for record in manifest.engines if record.runs_on(compute_capability)]
    others = [record for record in manifest.engines if not record.runs_on(compute_capability)]
    return {
        "kind": "engines",
        "path": str(manifest.folder),
        "digest": manifest.digest,
        "compute_capability": compute_capability,
        "runs": [_entry(record) for record in here],
        "does_not_run": [_entry(record) for record in others],
        "components_without": [
            name for name in manifest.components if not any(record.component == name for record in here)
        ],
    }


def lines_for(report: dict[str, Any]) -> list[str]:
    """The report as text."""
    capability = report["compute_capability"]
    lines = [f"{report['path']}: engines for compute capability {capability}", f"  digest {report['digest']}"]
    lines += [f"  runs      {_text(entry)}" for entry in report["runs"]]
    lines += [
        f"  does not  {_text(entry)}: built for {', '.join(entry['compute_capabilities'])}"
        for entry in report["does_not_run"]
    ]
    for name in report["components_without"]:
        lines.append(f"  the {name} has no engine for it: run `latentrt build` there, or with --compute-capability")
    return lines


def _entry(record: EngineRecord) -> dict[str, Any]:
    return {
        "component": record.component,
        "backend": record.backend,
        "library_version": record.library_version,
        "version_compatible": bool(record.settings.get("version_compatible")),
        "dtype": record.dtype,
        "kind": record.kind,
        "compute_capabilities": list(record.compute_capabilities),
        "file": record.file,
        "bytes": record.bytes,
    }


def _text(entry: dict[str, Any]) -> str:
    later = " or later" if entry["version_compatible"] else ""
    needs = f"needs {entry['backend']} {entry['library_version']}{later}"
    return f"{entry['component']}, {entry['dtype']}, {_KINDS[entry['kind']]}: {entry['file']}, {needs}"
