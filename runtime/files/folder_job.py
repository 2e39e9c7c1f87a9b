"""One file of a folder that is encoded or decoded: its source, its output, and the state of the output."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import OutputError

__all__ = ["FolderJob", "State", "check_same"]

State = Literal["absent", "same", "unrecorded", "other", "unreadable"]


@dataclass(frozen=True)
class FolderJob:
    """One source and its output.

    Attributes:
        source: the file that is read.
        output: the file that is written.
        state: what `output` is now. "absent": it does not exist. "same": it is the file that this run would make.
            "unrecorded": it exists and does not record its origin. "other": it differs. "unreadable": `source` cannot
            be read, so nothing can be said about `output`.
        reason: why it differs, or what is known of an output that is kept.
    """

    source: Path
    output: Path
    state: State = "absent"
    reason: str = ""

    def is_waiting(self, overwrite: bool) -> bool:
        """Whether this run makes the output.

        Args:
            overwrite: whether the run replaces outputs that differ or record no origin.
        """
        return self.state in (
            ("absent", "unreadable", "other", "unrecorded") if overwrite else ("absent", "unreadable")
        )


def check_same(jobs: Sequence[FolderJob], folder: Path) -> None:
    """Refuse to continue if the folder holds files that this run would make differently.

    Raises:
        OutputError: there are such files. The message counts them by reason.
    """
    others = Counter(job.reason for job in jobs if job.state == "other")
    if others:
        reasons = ", ".join(f"{count} {reason}" for reason, count in others.most_common(5))
        raise OutputError(
            f"{folder}: this run would make {others.total()} of the latents files there differently ({reasons}): give "
            f"--force to replace them, or name another folder"
        )
