"""The end of a command's closing line: how the calls ran."""

from collections.abc import Mapping
from typing import Any

from ...runtime.system.budget import memory_text

__all__ = ["how_it_ran"]


def how_it_ran(report: Mapping[str, Any]) -> str:
    """The backend, precision, strategy, exactness, seconds and planned memory of a report, as one phrase."""
    parts = [report["backend"], report["dtype"]]
    if report["strategy"] is not None:
        parts += [report["strategy"], "exact" if report["exact"] else "approximate"]
    parts.append(f"{report['seconds']:.1f} s")
    if report["planned_bytes"] is not None:
        parts.append(f"planned for {memory_text(report['planned_bytes'])}")
    return ", ".join(parts)
