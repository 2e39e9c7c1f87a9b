"""Cases of a benchmark and their measurements, as values."""

import statistics
from dataclasses import asdict, dataclass
from typing import Any

from ...runtime.arrays.size_text import size_text

__all__ = ["Case", "Measurement"]


@dataclass(frozen=True)
class Case:
    """One component at one size on one backend.

    Attributes:
        component: "encoder" or "decoder".
        size: size of the sample, (H, W) or (T, H, W), on the model's grid.
        batch: number of samples in a call.
        backend: name of the backend.
        provider: ONNX Runtime provider; None for other backends.
        dtype: precision.
        strategy: "default" (as a plain call runs), "whole", "tiled", "stream" or "strips".
        threads: number of threads; None is the engine's default.
        repeats: number of measured calls.
        tile: sizes of tiles, as --tile gives them.
        overlap: overlaps of tiles, as --overlap gives them.
        blend: blend of tiles, as --blend gives it.
        warm: True if the engine is specialised for the size, as `warmup` does it.
        memory: the `memory=` argument of calls.
    """

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
        """The backend, with its provider."""
        return f"{self.backend}:{self.provider}" if self.provider else self.backend

    @property
    def size_text(self) -> str:
        """The size as the command line takes it, HEIGHTxWIDTH or HEIGHTxWIDTHxFRAMES."""
        return size_text(self.size)

    @property
    def label(self) -> str:
        """The case in one line."""
        return f"{self.component} {self.size_text}, {self.engine}, {self.dtype}, {self.strategy}{self.setting}"

    @property
    def setting(self) -> str:
        """Text that follows the strategy: `warm` and `memory`, if they are set."""
        return (", warm" if self.warm else "") + ("" if self.memory is None else f", within {self.memory}")

    def to_json(self) -> dict[str, Any]:
        """Return the case as values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Measurement:
    """The measurement of one case.

    Attributes:
        case: the case.
        tiles: number of tiles; 1 without tiling.
        seconds: time of each call, in seconds.
        first_seconds: time from opening the bundle to the end of the first call, which is not one of `seconds`.
        peak_bytes: peak memory of the process on the host, without GPU memory; None if the system does not report it.
        start_bytes: memory of the process before it opened the bundle; None if the system does not report it.
        ran: strategy with which a call ran for the strategy "default" or with `memory`; None for other cases.
    """

    case: Case
    tiles: int
    seconds: tuple[float, ...]
    first_seconds: float
    peak_bytes: int | None
    start_bytes: int | None
    ran: str | None = None

    @property
    def label(self) -> str:
        """The measurement in one line, without its numbers."""
        case = self.case
        return f"{case.component} {case.size_text}, {case.engine}, {case.dtype}, {self.strategy}"

    @property
    def strategy(self) -> str:
        """Text for people: the strategy of the case, and the strategy with which it ran if that may differ."""
        way = self.case.strategy if self.tiles == 1 else f"{self.tiles} tiles"
        return f"{way}{'' if self.ran is None else f' ({self.ran})'}{self.case.setting}"

    @property
    def median_seconds(self) -> float:
        """The median of `seconds`."""
        return statistics.median(self.seconds)

    def to_json(self) -> dict[str, Any]:
        """Return the case and its measurement as values for JSON."""
        numbers = {key: value for key, value in vars(self).items() if key != "case"}
        spread = {
            "median_seconds": self.median_seconds,
            "low_seconds": min(self.seconds),
            "high_seconds": max(self.seconds),
        }
        return self.case.to_json() | numbers | spread
