"""The report, which is written after every row, and its judgement of the rows."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .cases import DRY_CASES, REAL_CASES
from .markdown import markdown
from .promises import PROMISES

__all__ = ["Report", "missed"]


class Report:
    """Rows of `Running.rows`, written to <device>.json and .md after each row, so that a stopped run keeps them.

    Args:
        folder: folder of the two files.
        only: the part that is measured alone; it follows the device in the names of the files.
    """

    def __init__(self, folder: Path, only: str = "") -> None:
        self._folder, self._only = folder, only
        self.machine: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []
        self.text = ""

    def add(self, row: dict[str, Any], seconds: float) -> None:
        """Add a row that was measured `seconds` after the start of the run."""
        if row["part"] == "machine" and row["status"] == "ok":
            self.machine = {key: value for key, value in row.items() if key not in ("part", "case", "by", "status")}
        self.rows.append(row | _shares(row, self.machine))
        self._write(seconds)

    def is_ok(self, part: str, case: str, by: str) -> bool:
        return self.status(part, case, by) == "ok"

    def status(self, part: str, case: str, by: str) -> str | None:
        """Return the status of the last row of that kind, or None."""
        found = [row["status"] for row in self.rows if (row["part"], row["case"], row["by"]) == (part, case, by)]
        return found[-1] if found else None

    @property
    def complaints(self) -> list[str]:
        """The failures and the missed limits."""
        failed = [f"{_named(row)}: {row['reason']}" for row in self.rows if row["status"] == "failed"]
        return failed + [f"{_named(row)}: {miss}" for row in self.rows for miss in missed(row)]

    def _write(self, seconds: float) -> None:
        values = {
            "machine": self.machine,
            "seconds": seconds,
            "promises": [{"text": one.text, "parts": one.parts, "by": one.by} for one in PROMISES],
            "rows": self.rows,
        }
        self.text = markdown(self.machine, self.rows, PROMISES, self.complaints, seconds)
        self._folder.mkdir(parents=True, exist_ok=True)
        name = self._name(str(self.machine.get("device", "unknown")))
        for ending, text in (("json", json.dumps(values, indent=1) + "\n"), ("md", self.text)):
            partial = self._folder / f".{name}.{ending}.partial"
            partial.write_text(text, encoding="utf-8")
            partial.replace(self._folder / f"{name}.{ending}")

    def _name(self, device: str) -> str:
        return re.sub(r"[^a-z0-9]+", "-", f"{device} {self._only}".lower()).strip("-")


def missed(row: Mapping[str, Any]) -> list[str]:
    """Return the limits `least` and `most` that a row misses."""
    if row["status"] != "ok":
        return []
    low = [(name, limit, "at least") for name, limit in row.get("least", {}).items() if _value(row, name) < limit]
    high = [(name, limit, "at most") for name, limit in row.get("most", {}).items() if _value(row, name) > limit]
    return [f"{name} is {_value(row, name):.4g}, wanted {what} {limit:g}" for name, limit, what in (*low, *high)]


def _value(row: Mapping[str, Any], name: str) -> float:
    """Return a measured value; infinity without a reference, so that no limit is missed."""
    value = row[name]
    return float("inf") if value is None else float(value)


def _named(row: Mapping[str, Any]) -> str:
    return f"{row['case']}, {row['by']}, {row['part']}"


def _shares(row: Mapping[str, Any], machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the share of the matrix rate of its precision that a call reaches, if both are known."""
    does, _, _ = row["part"].partition(",")
    case = next((one for one in (*REAL_CASES, *DRY_CASES) if one.name == row["case"]), None)
    rate = (machine.get("matrix_tflops") or {}).get(row["by"].rpartition(" ")[2])
    if case is None or rate is None or row["status"] != "ok" or does not in ("decode", "encode"):
        return {}
    tflop = case.tflop("encoder" if does == "encode" else "decoder")
    return {"share_of_matrix_rate": tflop / row["seconds"] / rate}
