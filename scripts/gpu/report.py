"""The report, on disk after every row, and what it judges."""

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
    """Rows as `Running.rows` gives them, written to `folder` as <device>.json and .md as soon as there is one more: a
    run that is cut off leaves what it has. `only`: what alone is measured, which stands behind the device in the name.
    """

    def __init__(self, folder: Path, only: str = "") -> None:
        self._folder, self._only = folder, only
        self.machine: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []
        self.text = ""

    def add(self, row: dict[str, Any], seconds: float) -> None:
        """Enter a row, measured when the run had taken so many seconds."""
        if row["part"] == "machine" and row["status"] == "ok":
            self.machine = {key: value for key, value in row.items() if key not in ("part", "case", "by", "status")}
        self.rows.append(row | _shares(row, self.machine))
        self._write(seconds)

    def is_ok(self, part: str, case: str, by: str) -> bool:
        return self.status(part, case, by) == "ok"

    def status(self, part: str, case: str, by: str) -> str | None:
        """Of the last such row; None where there is none."""
        found = [row["status"] for row in self.rows if (row["part"], row["case"], row["by"]) == (part, case, by)]
        return found[-1] if found else None

    @property
    def complaints(self) -> list[str]:
        """What failed, and what is not as promised."""
        failed = [f"{_named(row)}: {row['reason']}" for row in self.rows if row["status"] == "failed"]
        return failed + [f"{_named(row)}: {said}" for row in self.rows for said in missed(row)]

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
    """What a row has less of than `least`, or more of than `most`."""
    if row["status"] != "ok":
        return []
    low = [(name, limit, "at least") for name, limit in row.get("least", {}).items() if _value(row, name) < limit]
    high = [(name, limit, "at most") for name, limit in row.get("most", {}).items() if _value(row, name) > limit]
    return [f"{name} is {_value(row, name):.4g}, wanted {what} {limit:g}" for name, limit, what in (*low, *high)]


def _value(row: Mapping[str, Any], name: str) -> float:
    """What was measured; without a reference nothing is promised of the distance to it."""
    value = row[name]
    return float("inf") if value is None else float(value)


def _named(row: Mapping[str, Any]) -> str:
    return f"{row['case']}, {row['by']}, {row['part']}"


def _shares(row: Mapping[str, Any], machine: Mapping[str, Any]) -> dict[str, Any]:
    """What share of the matrix rate of its precision a call reaches, where both are known."""
    does, _, _ = row["part"].partition(",")
    case = next((one for one in (*REAL_CASES, *DRY_CASES) if one.name == row["case"]), None)
    rate = (machine.get("matrix_tflops") or {}).get(row["by"].rpartition(" ")[2])
    if case is None or rate is None or row["status"] != "ok" or does not in ("decode", "encode"):
        return {}
    tflop = case.tflop("encoder" if does == "encode" else "decoder")
    return {"share_of_matrix_rate": tflop / row["seconds"] / rate}
