"""The report of a comparison with the PyTorch reference."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...runtime.bundle.verification_record import VerificationRecord
from ...runtime.selftest.report import LEAST_PSNR_DB

__all__ = ["Comparison", "NotCompared", "ParityReport"]


@dataclass(frozen=True)
class Comparison:
    """The comparison of one graph with the reference on one input.

    Attributes:
        backend: name of the backend, with its provider, such as "onnxruntime:cpu".
        dtype: precision of the graph.
        component: "encoder" or "decoder".
        causal: causality of a video model's graph; None for image models.
        sample: "random", or the file name of the sample.
        shape: shape of the input.
        max_abs: largest absolute difference of the outputs.
        relative: `max_abs` over the largest magnitude of the reference's output.
        psnr_db: PSNR in dB; the range (max - min) of the reference's output is the peak.
        seconds: time of one call, in seconds.
        reference_seconds: time of one call of the reference, in seconds.
        strategy: how the backend ran: "whole" (or the planned strategy, if the whole might not fit into memory),
            "stream" or "strips".
    """

    backend: str
    dtype: str
    component: str
    causal: bool | None
    sample: str
    shape: tuple[int, ...]
    max_abs: float
    relative: float
    psnr_db: float
    seconds: float
    reference_seconds: float
    strategy: str = "whole"


@dataclass(frozen=True)
class NotCompared:
    """A comparison that could not be made.

    Attributes:
        backend: name of the backend, with its provider.
        dtype: precision of the graph.
        reason: why there is no comparison.
    """

    backend: str
    dtype: str
    reason: str


@dataclass(frozen=True)
class ParityReport:
    """All comparisons of a bundle. A comparison that could not be made counts as failed.

    Attributes:
        comparisons: the comparisons; at least one.
        min_psnr_db: PSNR in dB that each comparison must reach; None is the least of its precision.
        not_compared: the comparisons that could not be made.
    """

    comparisons: tuple[Comparison, ...]
    min_psnr_db: float | None = None
    not_compared: tuple[NotCompared, ...] = ()

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The precisions of the comparisons."""
        return tuple(dict.fromkeys(row.dtype for row in self.comparisons))

    @property
    def worst_psnr_db(self) -> float:
        """The lowest PSNR of all comparisons, in dB."""
        return _worst(self.comparisons)

    @property
    def passed(self) -> bool:
        """True if every comparison was made and reached `wanted_db` of its precision."""
        reached = all(row.psnr_db >= self.wanted_db(row.dtype) for row in self.comparisons)
        return reached and not self.not_compared

    def wanted_db(self, dtype: str) -> float:
        """The PSNR in dB that a comparison in a precision must reach."""
        return LEAST_PSNR_DB[dtype] if self.min_psnr_db is None else self.min_psnr_db

    def worst_of(self, dtype: str) -> float:
        """The lowest PSNR of a precision, in dB."""
        return _worst([row for row in self.comparisons if row.dtype == dtype])

    def records(self, date: str, versions: Mapping[str, Mapping[str, str | None]]) -> tuple[VerificationRecord, ...]:
        """One record for each backend and precision.

        Args:
            date: when the comparison ended, in ISO 8601 and UTC.
            versions: by backend: the versions of what was compared.
        """
        keys = dict.fromkeys((row.backend, row.dtype) for row in self.comparisons)
        keys |= dict.fromkeys((row.backend, row.dtype) for row in self.not_compared)
        return tuple(self._record(*key, date, versions[key[0]]) for key in keys)

    def _record(self, backend: str, dtype: str, date: str, versions: Mapping[str, str | None]) -> VerificationRecord:
        rows = tuple(row for row in self.comparisons if (row.backend, row.dtype) == (backend, dtype))
        reasons = [row.reason for row in self.not_compared if (row.backend, row.dtype) == (backend, dtype)]
        wanted = self.wanted_db(dtype)
        return VerificationRecord(
            backend=backend,
            dtype=dtype,
            passed=bool(rows) and _worst(rows) >= wanted and not reasons,
            min_psnr_db=wanted,
            worst_psnr_db=_finite(_worst(rows)) if rows else None,
            date=date,
            versions=versions,
            samples=tuple(dict.fromkeys(row.sample for row in rows)),
            comparisons=tuple(map(_row, rows)),
            not_compared=tuple(reasons),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as values for JSON. NaN and infinity become None, since JSON has neither."""
        return {
            "passed": self.passed,
            "min_psnr_db": {dtype: self.wanted_db(dtype) for dtype in self.dtypes},
            "worst_psnr_db": _finite(self.worst_psnr_db),
            "comparisons": list(map(_row, self.comparisons)),
            "not_compared": [asdict(row) for row in self.not_compared],
        }


def _worst(rows: Sequence[Comparison]) -> float:
    """The lowest PSNR in dB; -inf if one is NaN."""
    return min(-math.inf if math.isnan(row.psnr_db) else row.psnr_db for row in rows)


def _row(comparison: Comparison) -> dict[str, Any]:
    values = asdict(comparison) | {"shape": list(comparison.shape)}
    return {key: _finite(value) for key, value in values.items()}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
