"""Why the planner chose a strategy although others are faster, as a sentence."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..system.budget import memory_text

if TYPE_CHECKING:
    from .decision import JudgedStrategy

__all__ = ["why_not_faster"]

_MOST_NAMED = 2  # strategies of each reason; further ones are counted


def why_not_faster(seen: "Sequence[JudgedStrategy]", chosen: "JudgedStrategy | None") -> str:
    """Why each faster strategy was not chosen. Empty if none is faster, or if the seconds are not known.

    Args:
        seen: the strategies that were looked at.
        chosen: the strategy that was chosen, or None.
    """
    if chosen is None or chosen.seconds == float("inf"):
        return ""
    faster = sorted((one for one in seen if one.seconds < chosen.seconds), key=lambda one: one.seconds)
    by_reason: dict[str, list[str]] = {}
    for one in faster:
        by_reason.setdefault(_reason(one, chosen), []).append(_named(one, several=one.backend != chosen.backend))
    parts = [f"{_joined(names)}: {reason}" for reason, names in by_reason.items()]
    return f"faster, and not chosen: {'; '.join(parts)}" if parts else ""


def _reason(one: "JudgedStrategy", chosen: "JudgedStrategy") -> str:
    if one.refused is not None:
        return one.refused
    if chosen.is_exact and not one.is_exact:
        return "approximate, and an exact strategy fits"
    if one.strategy.kind == chosen.strategy.kind:
        return "the largest pieces that fit are taken, since small differences in time are chance"
    return "looked at after the chosen strategy"


def _named(one: "JudgedStrategy", *, several: bool) -> str:
    where = f" on {one.backend}" if several else ""
    if one.refused is None or one.cost is None:
        return f"{one.label}{where}"
    bound = "at least" if one.cost.basis == "bounded" else "about"
    return f"{one.label}{where} ({bound} {memory_text(one.cost.bytes)})"


def _joined(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    shown = list(names[:_MOST_NAMED]) + ([f"{more} more"] if more > 0 else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
