"""Brings a bundle of an earlier version to today's form, without the checkpoint and without PyTorch.

Only `manifest.json` is written. Graphs, weights and engines stay as they are, so the results stay bit-identical.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..system.json_file import read_json
from .engine_records import EngineRecord
from .graph_contents import external_tensors
from .manifest import MANIFEST_NAME, Manifest
from .manifest_file import MOST_BYTES
from .schemas import SCHEMA_VERSION

__all__ = ["UpgradeReport", "upgrade_bundle"]


@dataclass(frozen=True)
class UpgradeReport:
    """What an upgrade did.

    Attributes:
        folder: the bundle.
        schema_before: the manifest's schema before.
        schema_after: the manifest's schema now.
        digest: the digest of the bundle now.
        changes: what changed, each the end of a sentence. Empty if the bundle has today's form already.
        kept_engines: the files of the engines that stay.
        dropped_engines: the files of the engines that no graph of the bundle can use. The files are not deleted.
        unread_files: the files that nothing reads any more. They are not deleted.
    """

    folder: Path
    schema_before: int
    schema_after: int
    digest: str
    changes: tuple[str, ...]
    kept_engines: tuple[str, ...]
    dropped_engines: tuple[str, ...]
    unread_files: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "folder": str(self.folder)}


def upgrade_bundle(bundle: str | Path) -> UpgradeReport:
    """Write a bundle's manifest in today's form, if it has another one. The file is replaced whole or not at all.

    Every hash is compared before. An engine stays if it was built from a graph of the bundle as it is now.

    Args:
        bundle: the folder.

    Raises:
        BundleError: the bundle is damaged, or has a schema that this version does not read.
        OutputError: the manifest cannot be written.
    """
    opened = Manifest.open(Path(bundle))
    opened.verify_hashes()
    before = _stored(opened.folder)
    report = _report(_in_todays_form(opened), before)
    if report.changes:
        Manifest.update(opened.folder, _in_todays_form)
    return report


def _in_todays_form(now: Manifest) -> Manifest:
    return dataclasses.replace(now, weight_bytes=_weight_bytes(now), engines=_usable_engines(now))


def _stored(folder: Path) -> dict[str, Any]:
    values = read_json(folder / MANIFEST_NAME, MOST_BYTES)
    assert isinstance(values, dict)  # it was opened
    return values


def _weight_bytes(manifest: Manifest) -> dict[str, dict[str, int]]:
    """The field `weight_bytes` of a manifest, read from the graphs that it does not list yet."""
    return {
        graph.file: dict(manifest.weight_bytes[graph.file])
        if graph.file in manifest.weight_bytes
        else {one.name: one.length_bytes for one in external_tensors(manifest.path_of(graph.file))}
        for graph in manifest.every_graph
    }


def _usable_engines(manifest: Manifest) -> tuple[EngineRecord, ...]:
    hashes = {file.name: file.sha256 for file in manifest.files}
    weights = {graph.file: graph.weights for graph in manifest.every_graph}
    return tuple(
        one
        for one in manifest.engines
        if one.graph in weights and one.is_of(hashes[one.graph], hashes[weights[one.graph]])
    )


def _report(after: Manifest, before: dict[str, Any]) -> UpgradeReport:
    values = json.loads(json.dumps(after.to_json()))
    kept = [one.file for one in after.engines]
    listed = {file.name for file in after.files}
    unread = [file["name"] for file in before["files"] if file["name"] not in listed]
    older = before["schema_version"]
    changes = [f"schema {older} becomes {SCHEMA_VERSION}"] if older != SCHEMA_VERSION else []
    if unread:
        changes.append(f"{len(unread)} files of streaming graphs, which today's code cannot run, are left out")
    for key in dict.fromkeys([*values, *before]):
        if key in ("schema_version", "files") or values.get(key) == before.get(key):
            continue
        changes.append(
            f"{key} is {'new' if key not in before else 'left out' if key not in values else 'written anew'}"
        )
    return UpgradeReport(
        folder=after.folder,
        schema_before=older,
        schema_after=SCHEMA_VERSION,
        digest=after.digest,
        changes=tuple(changes),
        kept_engines=tuple(kept),
        dropped_engines=tuple(one["file"] for one in before.get("engines") or () if one["file"] not in kept),
        unread_files=tuple(unread),
    )
