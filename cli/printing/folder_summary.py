"""The closing lines of a command that ran over a folder, and the count of failed files in its progress bar."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .progress import ProgressUpdate
from .run_summary import how_it_ran
from .terminal import echo, emit_json

if TYPE_CHECKING:
    from ...runtime.files.folder_report import FailedFile, FolderReport

__all__ = ["FailureCount", "show_folder"]

_MOST_NAMED = 10  # failed files that the closing lines name; the log has named all of them


class FailureCount:
    """Shows the number of failed files in a progress bar."""

    def __init__(self, bar: ProgressUpdate) -> None:
        self._bar, self._failed = bar, 0

    def add(self, failed: "FailedFile") -> None:
        """Count a file that failed."""
        self._failed += 1

    def update(self, what: str, done: int, total: int) -> None:
        """Move the bar."""
        self._bar(what, done, total, f"{self._failed} failed" if self._failed and what == "files" else "")


def show_folder(output: Path, shown: Mapping[str, Any], report: "FolderReport", kind: str, json_output: bool) -> None:
    """Print the summary of a run over files: how many were written, were there already, and failed.

    Args:
        output: the output of the command.
        shown: the report as JSON values, with the backend and the precision.
        report: the report.
        kind: what one output is, such as "latents file".
        json_output: whether to print JSON.
    """
    if json_output:
        emit_json(shown)
        return
    count = len(report.written)
    echo(f"{output}: {count} {kind}{'' if count == 1 else 's'} written{_others(report)}; {how_it_ran(shown)}")
    if not report.failed:
        return
    for one in report.failed[:_MOST_NAMED]:
        echo(f"failed: {one.source}: {one.error.removeprefix(f'{one.source} ')}")
    if len(report.failed) > _MOST_NAMED:
        echo(f"and {len(report.failed) - _MOST_NAMED} more failed: --json lists them all")
    echo("Run the command again to retry the failed files: it leaves out the others.")


def _others(report: "FolderReport") -> str:
    text = ""
    if report.failed:
        text += f", {len(report.failed)} failed"
    if report.kept:
        reasons = Counter(job.reason for job in report.kept if job.reason)
        notes = "; ".join(f"{count} of them {reason}" for reason, count in reasons.items())
        text += f", {len(report.kept)} were there already{f' ({notes})' if notes else ''}"
    if report.shared:
        text += f", {len(report.shared)} were written by other processes meanwhile"
    return text
