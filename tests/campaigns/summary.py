"""What a campaign found: counts per group, and the faults, each with the number that makes it again."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .verdict import Verdict

__all__ = ["Fault", "Summary"]

_HEADINGS = ("group", "cases", "right", "refused", "fault", "slowest", "most memory")
_OWN_FRAME = re.compile(r'File "[^"]*?/((?:latentrt|runtime|export|cli|tiling)/[^"]+)", line (\d+)')


@dataclass
class _Row:
    """The counts of one group."""

    right: int = 0
    refused: int = 0
    fault: int = 0
    slowest: float = 0.0  # seconds
    peak_bytes: int = 0

    @property
    def cases(self) -> int:
        return self.right + self.refused + self.fault

    def cells(self, group: str) -> tuple[str, ...]:
        numbers = (self.cases, self.right, self.refused, self.fault)
        return (group, *map(str, numbers), f"{self.slowest:.2f} s", f"{self.peak_bytes / 1e6:.0f} MB")


@dataclass
class Fault:
    """Cases of one group that failed in the same way.

    Attributes:
        group, kind: as in the case and its verdict.
        numbers: the cases, at most ten.
        count: how many there were.
        detail: of the first case.
    """

    group: str
    kind: str
    numbers: list[int]
    count: int
    detail: str

    @property
    def last_line(self) -> str:
        lines = [line.strip() for line in self.detail.strip().splitlines() if line.strip()]
        places = _OWN_FRAME.findall(self.detail)
        place = f" ({places[-1][0]}:{places[-1][1]})" if places else ""
        return (lines[-1][:300] if lines else "") + place


@dataclass
class Summary:
    """The result of a campaign. `add` is called with a lock held.

    Attributes:
        name, seed: of the campaign.
        interrupted: whether Ctrl-C ended it.
        broken: why the campaign itself could not go on, or None.
        seconds: how long it ran.
    """

    name: str
    seed: int
    groups: tuple[str, ...]
    interrupted: bool = False
    broken: str | None = None
    seconds: float = 0.0
    faults: dict[tuple[str, str, str], Fault] = field(default_factory=dict)
    _rows: dict[str, _Row] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)

    def add(self, group: str, number: int, verdict: Verdict) -> bool:
        """Count a case. Returns whether it is the first fault of its kind."""
        row = self._rows.setdefault(group, _Row())
        setattr(row, verdict.ending, getattr(row, verdict.ending) + 1)
        row.slowest = max(row.slowest, verdict.seconds)
        row.peak_bytes = max(row.peak_bytes, verdict.peak_bytes)
        if verdict.ending != "fault":
            return False
        found = Fault(group, verdict.kind, [number], 1, verdict.detail)
        key = (group, verdict.kind, _signature(found.last_line))
        known = self.faults.get(key)
        if known is None:
            self.faults[key] = found
            return True
        known.count += 1
        if len(known.numbers) < 10:
            known.numbers.append(number)
        return False

    def finish(self) -> None:
        self.seconds = time.monotonic() - self._started

    @property
    def cases(self) -> int:
        return sum(row.cases for row in self._rows.values())

    @property
    def fault_count(self) -> int:
        return sum(row.fault for row in self._rows.values())

    def progress(self) -> str:
        """One line for a terminal."""
        return f"{self.name}: {self.cases} cases, {self.fault_count} faults"

    def to_json(self) -> dict[str, Any]:
        return {
            "campaign": self.name,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "interrupted": self.interrupted,
            "broken": self.broken,
            "groups": {group: vars(row) | {"cases": row.cases} for group, row in self._ordered()},
            "faults": [vars(fault) for fault in self.faults.values()],
        }

    def text(self) -> str:
        """The table and the faults, for a terminal."""
        rows = [_HEADINGS, *self._cells()]
        widths = [max(len(row[place]) for row in rows) for place in range(len(_HEADINGS))]
        table = [
            "  ".join(
                cell.ljust(width) if not place else cell.rjust(width) for place, (cell, width) in enumerate(pairs)
            )
            for pairs in (list(zip(row, widths, strict=True)) for row in rows)
        ]
        return "\n".join([*table, "", *self._fault_lines(), self._ending()])

    def markdown(self, command: str) -> str:
        """The same as Markdown, with the command that makes it again."""
        rows = ["| " + " | ".join(cells) + " |" for cells in (_HEADINGS, ("---",) * len(_HEADINGS), *self._cells())]
        faults = [f"- {line}" for line in self._fault_lines()]
        return "\n".join([f"## {self.name}", "", f"`{command}`", "", *rows, "", *faults, self._ending(), ""])

    def _cells(self) -> Iterator[tuple[str, ...]]:
        total = _Row()
        for group, row in self._ordered():
            yield row.cells(group)
            for name in ("right", "refused", "fault"):
                setattr(total, name, getattr(total, name) + getattr(row, name))
            total.slowest = max(total.slowest, row.slowest)
            total.peak_bytes = max(total.peak_bytes, row.peak_bytes)
        yield total.cells("all")

    def _ordered(self) -> list[tuple[str, _Row]]:
        return [(group, self._rows[group]) for group in self.groups if group in self._rows]

    def _fault_lines(self) -> list[str]:
        return [
            f"{fault.group}: {fault.kind}, {fault.count} cases, such as --only {fault.group} --case "
            f"{fault.numbers[0]} --seed {self.seed}: {fault.last_line}"
            for fault in self.faults.values()
        ]

    def _ending(self) -> str:
        how = "stopped by Ctrl-C after" if self.interrupted else "ran for"
        broken = "" if self.broken is None else f"\nThe campaign itself failed:\n{self.broken}"
        return f"{self.name} {how} {self.seconds:.0f} s: {self.cases} cases, {self.fault_count} faults.{broken}"


def _signature(text: str) -> str:
    """The error without numbers, names of temporary files and quoted values, so that like faults count as one."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|\d+|/\S+", "_", text.partition(" (")[0][:80]) + text[text.rfind(" (") :]
