"""The end of a command's closing line: how the calls ran."""

from collections.abc import Mapping
from typing import Any

from ...runtime.system.budget import memory_text
from .size_order import size_order

__all__ = ["how_it_ran"]


def how_it_ran(report: Mapping[str, Any], size: str = "") -> str:
    """The backend, precision, strategy, exactness, seconds and planned memory of a report, as one phrase.

    Args:
        report: the report as JSON values.
        size: the size of the result, if the phrase follows it.
    """
    parts = [report["backend"], report["dtype"]]
    if report["strategy"] is not None:
        parts += [report["strategy"], "exact" if report["exact"] else "approximate"]
    parts.append(f"{report['seconds']:.1f} s")
    if report["planned_bytes"] is not None:
        parts.append(f"planned for {memory_text(report['planned_bytes'])}")
    order = size_order(f"{size} {report['strategy']}")
    return ", ".join(parts) + (f"; {order}" if order else "")
