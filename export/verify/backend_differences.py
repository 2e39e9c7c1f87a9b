"""The report of a comparison of backends with each other."""

import math
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["BackendDifference", "DifferenceReport"]


@dataclass(frozen=True)
class BackendDifference:
    """One input on one backend, compared with the same input on the first backend.

    Attributes:
        backend: the backend with its provider, such as "onnxruntime:cpu".
        dtype: the precision of the computation.
        component: "encoder" or "decoder".
        sample: "golden 0" and so on, or the file name of the sample.
        shape: shape of the result.
        max_abs: largest absolute difference of the results.
        relative: `max_abs` over the largest magnitude of the first backend's result.
        psnr_db: PSNR in dB; the range (max - min) of the first backend's result is the peak.
        least_psnr_db: the PSNR in dB that is wanted.
        reference_psnr_db: PSNR in dB against the PyTorch reference; None for samples of the user's.
        seconds: the time of the call.
    """

    backend: str
    dtype: str
    component: str
    sample: str
    shape: tuple[int, ...]
    max_abs: float
    relative: float
    psnr_db: float
    least_psnr_db: float
    reference_psnr_db: float | None
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the two backends agree as far as their precisions promise."""
        return self.psnr_db >= self.least_psnr_db


@dataclass(frozen=True)
class DifferenceReport:
    """All differences of a bundle's backends.

    Attributes:
        base: the backend and precision that the others are compared with.
        rows: the differences; at least one.
        not_compared: backends that did not run, each with the reason.
    """

    base: str
    rows: tuple[BackendDifference, ...]
    not_compared: tuple[tuple[str, str], ...] = ()

    @property
    def worst_psnr_db(self) -> float:
        """The lowest PSNR of all rows, in dB."""
        return min(row.psnr_db for row in self.rows)

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return all(row.passed for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Values for JSON. NaN and infinity become None."""
        return {
            "passed": self.passed,
            "base": self.base,
            "worst_psnr_db": _finite(self.worst_psnr_db),
            "rows": [{key: _finite(value) for key, value in asdict(row).items()} for row in self.rows],
            "not_compared": [{"backend": label, "reason": reason} for label, reason in self.not_compared],
        }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
