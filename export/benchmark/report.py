"""The report of a benchmark, as tables and as values for JSON."""

from dataclasses import dataclass
from typing import Any

from .case import Measurement
from .machine import machine_sentence
from .selection import Skipped

__all__ = ["BenchReport"]

_HEAD = ("component", "size", "backend", "dtype", "strategy", "median s", "from", "to", "slower", "first s", "peak MiB")
_TEXT_COLUMNS = 5  # the other columns are numbers


@dataclass(frozen=True)
class BenchReport:
    """All measurements of one run.

    Attributes:
        bundle: name of the bundle.
        family: family of the model.
        machine: description of the machine, by `describe_machine`.
        measurements: the measurements.
        skipped: the engines that are not measured.
    """

    bundle: str
    family: str
    machine: dict[str, Any]
    measurements: tuple[Measurement, ...]
    skipped: tuple[Skipped, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as values for JSON."""
        return {
            "bundle": self.bundle,
            "family": self.family,
            "machine": self.machine,
            "measurements": [row.to_json() for row in self.measurements],
            "not_measured": [vars(row) for row in self.skipped],
        }

    def table(self) -> str:
        """Return a table for the terminal.

        Rows of one component and size stand together. The column "slower" is the time of a row over the time of the
        fastest of them.
        """
        rows = [_HEAD, *self._rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column < _TEXT_COLUMNS else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        )

    def markdown(self) -> str:
        """Return the table, the machine, the method, and the list of what was not measured, in Markdown."""
        rules = ["---"] * _TEXT_COLUMNS + ["---:"] * (len(_HEAD) - _TEXT_COLUMNS)
        lines = ["| " + " | ".join(row) + " |" for row in (_HEAD, rules, *self._rows())]
        parts = [f"# {self.bundle} ({self.family})", machine_sentence(self.machine), self.method(), "\n".join(lines)]
        if self.skipped:
            parts += ["Not measured:", "\n".join(f"- {row.what}: {row.reason}" for row in self.skipped)]
        return "\n\n".join(parts) + "\n"

    def method(self) -> str:
        """Return the method of the measurements, in a few sentences."""
        first = self.measurements[0].case
        threads = "all threads" if first.threads is None else f"{first.threads} thread{'s' * (first.threads > 1)}"
        batch = "" if first.batch == 1 else f" of a batch of {first.batch}"
        warm = " Engines are warmed up: OpenVINO then has a model for each size." if first.warm else ""
        return (
            f"Each row is a process of its own: {first.repeats} calls{batch} one after the other with {threads}, their "
            f"median, the fastest and the slowest. 'first' is the time from opening the bundle to the end of a call "
            f"before them, and 'peak' the peak memory of the process. Inputs are random.{warm}"
        )

    def _rows(self) -> list[tuple[str, ...]]:
        best: dict[tuple[str, tuple[int, ...]], float] = {}
        for row in self.measurements:
            key = (row.case.component, row.case.size)
            best[key] = min(best.get(key, row.median_seconds), row.median_seconds)
        return [_row(row, best[row.case.component, row.case.size]) for row in self.measurements]


def _row(row: Measurement, best: float) -> tuple[str, ...]:
    case = row.case
    return (
        case.component,
        case.size_text,
        case.engine,
        case.dtype,
        row.strategy,
        *(_seconds(value) for value in (row.median_seconds, min(row.seconds), max(row.seconds))),
        f"{row.median_seconds / best:.2f}x",
        _seconds(row.first_seconds),
        "-" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.0f}",
    )


def _seconds(value: float) -> str:
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"
