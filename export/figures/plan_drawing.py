"""Draws tile plans (places, overlaps and weights of the tiles) and decisions of the planner."""

from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.extras import require
from ...runtime.planner.decision import Decision, JudgedStrategy
from ...tiling import Line, Plan
from .figure_file import new_figure, write_figure

__all__ = ["draw_decision", "draw_plan"]


def draw_plan(plan: Plan, path: Path, *, title: str = "") -> None:
    """Draw a plan: the tiles of the last two axes, more opaque where they overlap, and the weights along each axis.

    Args:
        plan: the plan.
        path: a `.png`, `.svg` or `.pdf` file. An existing file is replaced.
        title: beginning of the figure's title.

    Raises:
        OutputError: the file has another ending, or cannot be written.
        MissingExtra: matplotlib is not installed.
    """
    rectangle = require("matplotlib.patches", extra="plot").Rectangle
    spatial, rows = plan.lines[-2:], len(plan.lines)
    figure = new_figure(1.6 * rows + 1.4)
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.3])
    axes = left.subplots()
    for down in spatial[0].pieces:
        for across in spatial[-1].pieces:
            corner, size = (across.target.start, down.target.start), (len(across.target), len(down.target))
            axes.add_patch(rectangle(corner, *size, facecolor=(0.1, 0.4, 0.8, 0.18), edgecolor="black", linewidth=0.7))
    axes.set(xlim=(0, spatial[-1].target_size), ylim=(spatial[0].target_size, 0), aspect="equal")
    axes.set(xlabel=spatial[-1].axis.name, ylabel=spatial[0].axis.name)
    for panel, line in zip(np.atleast_1d(right.subplots(rows, 1)), plan.lines, strict=True):
        _draw_weights(panel, line)
    kind = "feed-forward" if plan.feed_forward else "weighted sum"
    figure.suptitle(f"{title}: {plan.count} tiles, {plan.work:.2f} times the cells, {kind}".lstrip(": "))
    write_figure(figure, path)


def draw_decision(decision: Decision, path: Path, *, title: str = "") -> None:
    """Draw a decision of the planner: memory and time of each strategy, and the budget.

    The chosen strategy is dark. A strategy without a known cost has the reason for its refusal instead of bars.

    Args:
        decision: the decision.
        path: a `.png`, `.svg` or `.pdf` file. An existing file is replaced.
        title: beginning of the figure's title.

    Raises:
        OutputError: the file has another ending, or cannot be written.
        MissingExtra: matplotlib is not installed.
    """
    rows = decision.candidates
    figure = new_figure(0.3 * len(rows) + 1.6)
    memory, time = figure.subplots(1, 2, sharey=True)
    places = range(len(rows))
    colours = ["#3b74b5" if row is decision.chosen else "#9db9d8" if row.refused is None else "#d9d9d9" for row in rows]
    memory.barh(places, [row.cost.most_bytes / 2**30 if row.cost else 0 for row in rows], color=colours, alpha=0.45)
    memory.barh(places, [row.cost.bytes / 2**30 if row.cost else 0 for row in rows], color=colours)
    memory.axvline(decision.budget / 2**30, color="#b03a2e", linewidth=1.2)
    memory.set(
        xlabel="GiB, pale: at most (line: the budget)",
        xscale="log",
        yticks=places,
        yticklabels=[_named(row) for row in rows],
    )
    memory.invert_yaxis()
    for place, row in enumerate(rows):
        if row.cost is None:
            style = {"transform": memory.get_yaxis_transform(), "va": "center", "fontsize": "x-small"}
            memory.text(0.02, place, row.refused, **style)
    time.barh(places, [row.cost.seconds or 0 if row.cost else 0 for row in rows], color=colours)
    if any(row.cost.seconds for row in rows if row.cost):  # the seconds of an unknown device are not known
        time.set(xlabel="seconds", xscale="log")
    for axes in (memory, time):  # plain numbers on a logarithmic axis
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}" if axes is memory else "")
    figure.suptitle(f"{title}: {decision.reason}".lstrip(": "), fontsize="medium")
    write_figure(figure, path)


def _named(candidate: JudgedStrategy) -> str:
    return f"{candidate.label} (exact)" if candidate.is_exact else candidate.label


def _draw_weights(panel: Any, line: Line) -> None:
    for piece in line.pieces:
        ends = [piece.target.start - 0.5, piece.target.stop - 0.5]
        middles = np.arange(piece.target.start, piece.target.stop)
        panel.plot([ends[0], *middles, ends[1]], [0, *piece.weights, 0], linewidth=1)
    panel.set(xlim=(-0.5, line.target_size - 0.5), ylim=(0, 1.08), yticks=[0, 0.5, 1])
    panel.set_title(
        f"weights along {line.axis.name} ({len(line.pieces)} tile{'s' * (len(line.pieces) > 1)})",
        fontsize="small",
        loc="left",
    )
