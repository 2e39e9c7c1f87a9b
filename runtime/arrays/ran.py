"""Reports of how a call ran."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["FileRun", "Ran", "summary"]


@dataclass(frozen=True)
class Ran:
    """How one encode or decode ran.

    Attributes:
        backend: the backend and its provider, such as "onnxruntime:cpu".
        dtype: the precision of the computation.
        strategy: "whole", "stream of 8 frames", "tiles of 512x512", "strips of 256 rows", ...
        exact: whether the numbers equal those of a single pass. Tiles approximate them.
        planned_bytes: the peak memory that the planner predicted. None if the call was not planned.
    """

    backend: str
    dtype: str
    strategy: str
    exact: bool
    planned_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class FileRun:
    """How one file was encoded or decoded.

    Attributes:
        source: the file that was read.
        output: the file that was written.
        ran: how the call ran.
        seconds: the time for the file, from reading to writing.
    """

    source: Path
    output: Path
    ran: Ran
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values, with those of `ran`."""
        named = {"source": str(self.source), "output": str(self.output)}
        return {**named, **self.ran.to_json(), "seconds": round(self.seconds, 3)}


def summary(runs: Sequence[FileRun]) -> dict[str, Any]:
    """How several files ran, as JSON values.

    It has all strategies, whether all runs were exact, the largest `planned_bytes`, and the sum of `seconds`.
    """
    planned = [run.ran.planned_bytes for run in runs if run.ran.planned_bytes is not None]
    return {
        "strategy": "; ".join(dict.fromkeys(run.ran.strategy for run in runs)) or None,
        "exact": all(run.ran.exact for run in runs) if runs else None,
        "planned_bytes": max(planned, default=None),
        "seconds": round(sum(run.seconds for run in runs), 3),
    }
