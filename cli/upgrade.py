"""`latentrt upgrade`: bring a bundle of an earlier version to today's form."""

from pathlib import Path

import click

from ..runtime.bundle.upgrade import UpgradeReport, upgrade_bundle
from .options.common import as_json
from .printing.terminal import echo, emit_json

__all__ = ["upgrade"]


@click.command(epilog="Example: latentrt upgrade bundle")
@click.argument("bundle", type=click.Path(path_type=Path))
@as_json
def upgrade(bundle: Path, json_output: bool) -> None:
    """Bring BUNDLE of an earlier version to today's form.

    The command needs neither the checkpoint nor PyTorch. It compares every hash, and then replaces manifest.json, whole
    or not at all. Graphs, weights and engines stay as they are, so results stay as they are. An engine that no graph of
    the bundle can use is left out of the manifest. A bundle of today's form is not written.
    """
    report = upgrade_bundle(bundle)
    if json_output:
        emit_json(report.to_json())
    else:
        echo(*_lines(report))


def _lines(report: UpgradeReport) -> list[str]:
    if not report.changes:
        return [f"{report.folder} has today's form already (schema {report.schema_after}): nothing was written"]
    lines = [f"{report.folder} has today's form now (schema {report.schema_after})", f"  digest {report.digest}"]
    lines += [f"  {change}" for change in report.changes]
    if report.kept_engines:
        lines.append(f"  {len(report.kept_engines)} engines stay")
    lines += [f"  {file}: left out, since no graph of the bundle can use it" for file in report.dropped_engines]
    return [*lines, *(f"  {file}: nothing reads it any more, so it can be deleted" for file in report.unread_files)]
