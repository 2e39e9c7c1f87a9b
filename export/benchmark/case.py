"""What is measured, and what came out, as values."""

import statistics
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Case", "Measurement"]


@dataclass(frozen=True)
class Case:
    """One component at one size on one backend. `size`: of the sample, (H, W) or (T, H, W), on the model's grid.
    `strategy`: "whole", "tiled", "stream" or "exact"; `tile`, `overlap`, `blend` are the command line's, for tiles."""

    component: str
    size: tuple[int, ...]
    batch: int
    backend: str
    provider: str | None
    dtype: str
    strategy: str
    threads: int | None
    repeats: int
    tile: tuple[int, ...] | None = None
    overlap: tuple[int, ...] | None = None
    blend: str | None = None

    @property
    def engine(self) -> str:
        return f"{self.backend}:{self.provider}" if self.provider else self.backend

    @property
    def size_text(self) -> str:
        return "x".join(map(str, (*self.size[-2:], *self.size[:-2])))  # HxW[xT], as the command line takes it

    @property
    def label(self) -> str:
        return f"{self.component} {self.size_text}, {self.engine}, {self.dtype}, {self.strategy}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Measurement:
    """Of one case: `seconds` of each call, and `first_seconds` from opening the bundle to the end of the first call,
    which is not among them. `peak_bytes`: the most memory that the process held (of the host's, not of a GPU's);
    None where the system does not tell. `start_bytes`: what it held before the bundle was opened."""

    case: Case
    tiles: int
    seconds: tuple[float, ...]
    first_seconds: float
    peak_bytes: int | None
    start_bytes: int | None

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.seconds)

    def to_json(self) -> dict[str, Any]:
        numbers = {key: value for key, value in vars(self).items() if key != "case"}
        spread = {
            "median_seconds": self.median_seconds,
            "low_seconds": min(self.seconds),
            "high_seconds": max(self.seconds),
        }
        return self.case.to_json() | numbers | spread
