"""What is measured, and what came out, as values."""

import statistics
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Case", "Measurement"]


@dataclass(frozen=True)
class Case:
    """One component at one size on one backend. `size`: of the sample, (H, W) or (T, H, W), on the model's grid.
    `strategy`: "default" (what a plain call does), "whole", "tiled", "stream" or "strips"; `tile`, `overlap`, `blend`
    are the command line's, for tiles. `warm`: the size was named to `warmup` before. `memory`: what calls are given as
    `memory=`."""

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
    warm: bool = False
    memory: str | None = None

    @property
    def engine(self) -> str:
        return f"{self.backend}:{self.provider}" if self.provider else self.backend

    @property
    def size_text(self) -> str:
        return "x".join(map(str, (*self.size[-2:], *self.size[:-2])))  # HxW[xT], as the command line takes it

    @property
    def label(self) -> str:
        return f"{self.component} {self.size_text}, {self.engine}, {self.dtype}, {self.strategy}{self.setting}"

    @property
    def setting(self) -> str:
        """What is set beside the strategy, as text behind it."""
        return (", warm" if self.warm else "") + ("" if self.memory is None else f", within {self.memory}")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Measurement:
    """Of one case: `seconds` of each call, and `first_seconds` from opening the bundle to the end of the first call,
    which is not among them. `peak_bytes`: the most memory that the process held (of the host's, not of a GPU's);
    None where the system does not tell. `start_bytes`: what it held before the bundle was opened. `ran`: how a call of
    the strategy "default", or one with `memory`, ran."""

    case: Case
    tiles: int
    seconds: tuple[float, ...]
    first_seconds: float
    peak_bytes: int | None
    start_bytes: int | None
    ran: str | None = None

    @property
    def label(self) -> str:
        case = self.case
        return f"{case.component} {case.size_text}, {case.engine}, {case.dtype}, {self.strategy}"

    @property
    def strategy(self) -> str:
        """For people: what was asked for, and how it ran where that does not say it."""
        way = self.case.strategy if self.tiles == 1 else f"{self.tiles} tiles"
        return f"{way}{'' if self.ran is None else f' ({self.ran})'}{self.case.setting}"

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
