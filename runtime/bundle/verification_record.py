"""What `latentrt verify` found for one backend in one precision. A bundle holds one record for each such pair."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["VerificationRecord", "read_verifications", "with_records"]

_TEXTS = ("backend", "dtype", "component", "strategy", "sample")


@dataclass(frozen=True)
class VerificationRecord:
    """The comparison of one backend in one precision with the PyTorch reference.

    Attributes:
        backend: the backend with its provider, such as "onnxruntime:cpu".
        dtype: the precision of the computation.
        passed: whether every comparison was made and reached `min_psnr_db`.
        min_psnr_db: the PSNR in dB that each comparison had to reach.
        worst_psnr_db: the lowest PSNR in dB. None if a result held NaN or infinity, or nothing was compared.
        date: when the comparison ended, in ISO 8601 and UTC, or None for records of earlier versions.
        versions: of latentrt, torch and the backend's library.
        samples: the names of the inputs: "random", and the file names of the user's samples.
        comparisons: one object for each graph, input and strategy.
        not_compared: the reasons for comparisons that could not be made.
    """

    backend: str
    dtype: str
    passed: bool
    min_psnr_db: float
    worst_psnr_db: float | None
    date: str | None = None
    versions: Mapping[str, str | None] = field(default_factory=dict)
    samples: tuple[str, ...] = ()
    comparisons: tuple[Mapping[str, Any], ...] = ()
    not_compared: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError if a field is missing or of the wrong kind."""
        texts = (values["backend"], values["dtype"], values["date"] or "", *values["samples"], *values["not_compared"])
        numbers = (values["min_psnr_db"], values["worst_psnr_db"] or 0.0)
        versions = dict(values["versions"])
        if not all(isinstance(text, str) for text in (*texts, *versions, *(one or "" for one in versions.values()))):
            raise ValueError("a verification holds a text of the wrong kind")
        if type(values["passed"]) is not bool or not all(map(_is_number, numbers)):
            raise ValueError("a verification holds a number of the wrong kind")
        return cls(
            backend=values["backend"],
            dtype=values["dtype"],
            passed=values["passed"],
            min_psnr_db=values["min_psnr_db"],
            worst_psnr_db=values["worst_psnr_db"],
            date=values["date"],
            versions=versions,
            samples=tuple(values["samples"]),
            comparisons=tuple(map(_comparison, values["comparisons"])),
            not_compared=tuple(values["not_compared"]),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            "versions": dict(self.versions),
            "samples": list(self.samples),
            "comparisons": [dict(row) for row in self.comparisons],
            "not_compared": list(self.not_compared),
        }

    def worst_of(self, component: str) -> float | None:
        """The lowest PSNR of a component in dB: -inf if a result was not finite, None if nothing was compared."""
        found = [row["psnr_db"] for row in self.comparisons if row["component"] == component]
        return min((-math.inf if value is None else value for value in found), default=None)


def read_verifications(values: Mapping[str, Any]) -> tuple[VerificationRecord, ...]:
    """The records of a manifest's JSON values. Earlier versions stored the last report alone, as "verification"; it
    becomes one record for each backend and precision.

    Raises:
        KeyError, TypeError, ValueError: a field is missing or of the wrong kind.
    """
    stored = values.get("verifications")
    if stored is None:
        return _of_report(values.get("verification"))
    records = tuple(map(VerificationRecord.from_json, stored))
    if len({(one.backend, one.dtype) for one in records}) != len(records):
        raise ValueError("a backend is verified twice in one precision")
    return records


def with_records(
    old: Iterable[VerificationRecord], new: Sequence[VerificationRecord]
) -> tuple[VerificationRecord, ...]:
    """The records after another run of `verify`: a new record replaces that of the same backend and precision."""
    records = {(one.backend, one.dtype): one for one in old}
    records |= {(one.backend, one.dtype): one for one in new}
    return tuple(records[key] for key in sorted(records))


def _of_report(report: Any) -> tuple[VerificationRecord, ...]:
    if report is None:
        return ()
    if not isinstance(report, dict):
        raise ValueError("a report is no object")
    rows = [_comparison({"strategy": "whole", **row}) for row in report.get("comparisons") or ()]
    missing = [(row["backend"], row["dtype"], row["reason"]) for row in report.get("not_compared") or ()]
    keys = dict.fromkeys([*((row["backend"], row["dtype"]) for row in rows), *(row[:2] for row in missing)])
    return tuple(
        _of_rows(
            *key,
            least=float(report.get("min_psnr_db") or 0.0),
            rows=[row for row in rows if (row["backend"], row["dtype"]) == key],
            reasons=[reason for *own, reason in missing if tuple(own) == key],
        )
        for key in keys
    )


def _of_rows(
    backend: str, dtype: str, least: float, rows: Sequence[Mapping[str, Any]], reasons: Sequence[str]
) -> VerificationRecord:
    found = [row["psnr_db"] for row in rows]
    worst = None if None in found or not found else min(found)
    values: dict[str, Any] = {
        "backend": backend,
        "dtype": dtype,
        "passed": worst is not None and worst >= least and not reasons,
        "min_psnr_db": least,
        "worst_psnr_db": worst,
        "date": None,
        "versions": {},
        "samples": list(dict.fromkeys(row["sample"] for row in rows)),
        "comparisons": rows,
        "not_compared": list(reasons),
    }
    return VerificationRecord.from_json(values)


def _comparison(row: Any) -> Mapping[str, Any]:
    if not isinstance(row, dict) or not all(isinstance(row[key], str) for key in _TEXTS):
        raise ValueError("a comparison of a verification is no object, or a text in it is of the wrong kind")
    if row["psnr_db"] is not None and not _is_number(row["psnr_db"]):
        raise ValueError("the PSNR of a comparison is no number")
    return row


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
