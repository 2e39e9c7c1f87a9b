"""How a call ran, as a value for reports."""

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
        exact: whether the numbers are those of a single pass. Tiles approximate them.
        planned_bytes: the most memory that the planner expected the call to take. None if the call was not planned.
    """

    backend: str
    dtype: str
    strategy: str
    exact: bool
    planned_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class FileRun:
    """One file that was encoded or decoded. `seconds`: of the whole file, from reading to writing."""

    source: Path
    output: Path
    ran: Ran
    seconds: float

    def to_json(self) -> dict[str, Any]:
        named = {"source": str(self.source), "output": str(self.output)}
        return {**named, **self.ran.to_json(), "seconds": round(self.seconds, 3)}


def summary(runs: Sequence[FileRun]) -> dict[str, Any]:
    """How several files ran, for JSON: every strategy, exact if all were, the largest plan, the sum of the seconds."""
    planned = [run.ran.planned_bytes for run in runs if run.ran.planned_bytes is not None]
    return {
        "strategy": "; ".join(dict.fromkeys(run.ran.strategy for run in runs)) or None,
        "exact": all(run.ran.exact for run in runs) if runs else None,
        "planned_bytes": max(planned, default=None),
        "seconds": round(sum(run.seconds for run in runs), 3),
    }
