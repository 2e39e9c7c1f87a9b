"""The report of a folder that was encoded or decoded: what was written, what was there, and what failed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...tiling.public_place import shown_in
from ..arrays.ran import FileRun, summary
from .folder_contents import LeftOut
from .folder_job import FolderJob

__all__ = ["FailedFile", "FolderReport"]


@shown_in("latentrt.runtime")
@dataclass(frozen=True)
class FailedFile:
    """A file of a folder that could not be encoded or decoded.

    Attributes:
        source: the file that was read.
        error: the reason, in one sentence.
    """

    source: Path
    error: str

    def to_json(self) -> dict[str, str]:
        """The fields as JSON values."""
        return {"source": str(self.source), "error": self.error}


@shown_in("latentrt.runtime")
@dataclass(frozen=True)
class FolderReport:
    """What happened to each file of a folder.

    Attributes:
        written: the files that were written, and how each ran.
        kept: the files whose outputs were there before the run.
        shared: the files whose outputs other processes wrote during the run.
        failed: the files that failed. A second run tries them again.
        left_out: the entries of the folder that are no inputs.
    """

    written: tuple[FileRun, ...]
    kept: tuple[FolderJob, ...]
    shared: tuple[FolderJob, ...]
    failed: tuple[FailedFile, ...]
    left_out: tuple[LeftOut, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        skipped = [{"file": str(job.source), "reason": f"{job.output} is there already"} for job in self.kept]
        skipped += [{"file": str(job.source), "reason": f"another process wrote {job.output}"} for job in self.shared]
        return {
            "written": [str(run.output) for run in self.written],
            "skipped": skipped + [one.to_json() for one in self.left_out],
            "failed": [one.to_json() for one in self.failed],
            **summary(self.written),
            "files": [run.to_json() for run in self.written],
        }
