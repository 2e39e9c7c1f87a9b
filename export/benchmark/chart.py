"""Draws measurements: time with its spread, and memory, case by case."""

from collections.abc import Sequence
from pathlib import Path

from ..figures.figure_file import new_figure, write_figure
from .case import Measurement

__all__ = ["draw_chart"]


def draw_chart(rows: Sequence[Measurement], path: Path, *, title: str = "") -> None:
    """Draw a bar per measurement: the median time with a line from the fastest to the slowest call, and peak memory.

    Args:
        rows: the measurements.
        path: a `.png`, `.svg` or `.pdf` file. An existing file is replaced.
        title: title of the figure.

    Raises:
        OutputError: the file has another ending, or cannot be written.
        MissingExtra: matplotlib is not installed.
    """
    figure = new_figure(0.35 * len(rows) + 1.6)
    time, memory = figure.subplots(1, 2, sharey=True, width_ratios=[1.4, 1])
    places = range(len(rows))
    medians = [row.median_seconds for row in rows]
    spread = [
        [median - min(row.seconds) for row, median in zip(rows, medians, strict=True)],
        [max(row.seconds) - median for row, median in zip(rows, medians, strict=True)],
    ]
    time.barh(places, medians, xerr=spread, color="#3b74b5", capsize=3)
    time.set(yticks=places, yticklabels=[row.label for row in rows], xlabel="seconds a call")
    time.invert_yaxis()
    memory.barh(places, [(row.peak_bytes or 0) / 2**20 for row in rows], color="#b57a3b")
    memory.set(xlabel="peak memory of the process, MiB")
    figure.suptitle(title)
    write_figure(figure, path)
