"""The planner's decision: every strategy that it looked at, and the strategy that it chose."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..calls.strategy import Strategy
from ..system.budget import memory_text
from .comparison import why_not_faster
from .costs import Cost

__all__ = ["OVER_BUDGET", "Decision", "JudgedStrategy", "reason_of", "refusal_of"]

OVER_BUDGET = "more than the budget"


@dataclass(frozen=True)
class JudgedStrategy:
    """A strategy with its cost, or with the reason why it is refused.

    Attributes:
        strategy: the strategy.
        label: the strategy in words.
        is_exact: whether it gives the numbers of a single pass.
        cost: what it takes. None: it is not known.
        refused: why it is refused. None: it fits.
        backend: the label of the backend that it runs on.
    """

    strategy: Strategy
    label: str
    is_exact: bool
    cost: Cost | None
    refused: str | None
    backend: str = ""

    @property
    def seconds(self) -> float:
        """For comparisons: infinite if it is not known."""
        known = self.cost is not None and self.cost.seconds is not None
        return self.cost.seconds if known else float("inf")  # type: ignore[union-attr, return-value]

    @property
    def most_bytes(self) -> float:
        """For comparisons: infinite if it is not known."""
        return float("inf") if self.cost is None else self.cost.most_bytes

    def to_json(self) -> dict[str, Any]:
        return {
            "strategy": self.label,
            "kind": self.strategy.kind,
            "exact": self.is_exact,
            "memory_bytes": None if self.cost is None else self.cost.bytes,
            "memory_most_bytes": None if self.cost is None else self.cost.most_bytes,
            "seconds": None if self.cost is None else self.cost.seconds,
            "refused": self.refused,
            "backend": self.backend,
            "basis": None if self.cost is None else self.cost.basis,
        }


@dataclass(frozen=True)
class Decision:
    """What the planner decided.

    Attributes:
        budget: the memory that a call may take, in bytes.
        candidates: every strategy that was looked at.
        chosen: the strategy that was chosen. None: none fits.
        reason: the reason, as a sentence.
        exact_only: whether approximate strategies were refused.
    """

    budget: int
    candidates: tuple[JudgedStrategy, ...]
    chosen: JudgedStrategy | None
    reason: str
    exact_only: bool = False

    def __repr__(self) -> str:
        chosen = None if self.chosen is None else self.chosen.label
        return f"Decision(chosen={chosen!r}, reason={self.reason!r}, {len(self.candidates)} candidates)"

    def to_json(self) -> dict[str, Any]:
        """The decision as JSON values."""
        return {
            "memory_bytes": self.budget,
            "chosen": None if self.chosen is None else self.chosen.label,
            "backend": None if self.chosen is None else self.chosen.backend,
            "reason": self.reason,
            "faster": self.why_not_faster or None,
            "candidates": [candidate.to_json() for candidate in self.candidates],
        }

    @property
    def why_not_faster(self) -> str:
        """Why strategies that are faster than the chosen one were not chosen, or "" if there are none."""
        return why_not_faster(self.candidates, self.chosen)

    @property
    def rests_on_bounds(self) -> bool:
        """Whether no exact strategy was chosen, although one was refused by its bounds without a measurement."""
        bounded = (one for one in self.candidates if one.refused and one.cost and one.cost.basis == "bounded")
        return (self.chosen is None or not self.chosen.is_exact) and any(one.is_exact for one in bounded)

    @property
    def backends(self) -> tuple[str, ...]:
        """The labels of the backends that were looked at."""
        return tuple(dict.fromkeys(candidate.backend for candidate in self.candidates))

    def together_with(self, other: "Decision") -> "Decision":
        """A decision with the candidates of both decisions. It takes the better choice: an exact strategy, and of these
        the fastest."""
        both = [(one.chosen, one.reason) for one in (self, other) if one.chosen is not None]
        chosen, reason = min(both, key=lambda one: (not one[0].is_exact, one[0].seconds), default=(None, self.reason))
        candidates = self.candidates + other.candidates
        exact_only = self.exact_only and other.exact_only
        if chosen is None:
            reason = refusal_of(candidates, self.budget, not exact_only)
        return Decision(self.budget, candidates, chosen, reason, exact_only)

    def compared_with(self, backend: str) -> "Decision":
        """The decision with a reason that says why the choice is not on `backend`, if it is on another one."""
        if self.chosen is None or self.chosen.backend == backend:
            return self
        fits = [one for one in self.candidates if one.backend == backend and one.is_exact and one.refused is None]
        best = min(fits, key=lambda one: one.seconds, default=None)
        why = f"since none fits on {backend}" if best is None else f"since {best.label} on {backend} is slower"
        return replace(self, reason=f"{self.reason}; on {self.chosen.backend}, {why}")

    def table(self, most_rows: int | None = None) -> str:
        """A text table with one row per strategy, the chosen strategy first and marked. Below it
        stand the reason, and why faster strategies were not chosen.

        `most_rows`: the most strategies to show; None shows all.
        """
        several = len(self.backends) > 1
        rows = [("", "strategy", "memory", "at most", "seconds", "exact", "by", "")]
        ordered = sorted(self.candidates, key=lambda candidate: candidate is not self.chosen)
        for candidate in ordered[:most_rows]:
            cost, seconds = candidate.cost, candidate.seconds
            rows.append(
                (
                    "->" if candidate is self.chosen else "",
                    f"{candidate.label} ({candidate.backend})" if several else candidate.label,
                    "-" if cost is None else memory_text(cost.bytes),
                    "-" if cost is None else memory_text(cost.most_bytes),
                    "-" if seconds == float("inf") else f"{seconds:.2f}" if seconds < 10 else f"{seconds:.0f}",
                    "yes" if candidate.is_exact else "no",
                    "-" if cost is None else cost.basis,
                    candidate.refused or "",
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(filter(None, [*lines, self.reason, self.why_not_faster]))


def refusal_of(seen: Sequence[JudgedStrategy], budget: int, approximate: bool) -> str:
    """The reason why nothing fits, as a sentence that names the least budget that would do.

    Args:
        seen: the strategies that were looked at.
        budget: the budget in bytes.
        approximate: whether an approximate strategy would do.
    """
    left = [one for one in seen if approximate or one.is_exact]
    fits = (
        f"nothing fits into {memory_text(budget)}" if approximate else f"nothing exact fits into {memory_text(budget)}"
    )
    least = min(left, key=lambda one: one.most_bytes, default=None)
    if least is None or least.cost is None:
        reasons = dict.fromkeys(one.refused for one in left if one.refused)
        return f"{fits}: {'; '.join(reasons) or 'the bundle has no exact strategy for the call'}; take a smaller size"
    where = f" on {least.backend}" if len({one.backend for one in left}) > 1 else ""
    return (
        f"{fits}: the least would be {least.label}{where}, in {memory_text(least.cost.most_bytes, up=True)}; "
        f"allow that much, or take a smaller size"
    )


def reason_of(seen: Sequence[JudgedStrategy], chosen: JudgedStrategy, budget: int, backend: str = "") -> str:
    """The reason for a choice, as a sentence.

    Args:
        seen: the strategies that were looked at.
        chosen: the strategy that was chosen, which has a cost.
        budget: the budget in bytes.
        backend: the label of the backend of all strategies, or "" if there are several.
    """
    on = f" on {backend}" if backend else ""
    allowed = memory_text(budget)
    assert chosen.cost is not None
    fits = f"{chosen.label}: at most {memory_text(chosen.cost.most_bytes)} of {allowed}"
    if not chosen.is_exact and chosen.strategy.kind in ("strips", "stream in strips"):
        return f"{fits}; approximate, since what waits between the steps is kept in float16"
    if not chosen.is_exact:
        return (
            f"{fits}; approximate, since no exact strategy fits{on} (tiles change pixels near their seams; by how much "
            f"was not measured, verify --tiling measures it)"
        )
    others = [one for one in seen if one.refused is None and one.is_exact and one is not chosen]
    if others:
        best = "the one of the fewest engine calls" if chosen.cost.seconds is None else "the fastest"
        return f"{fits}, {best} of the exact strategies that fit"
    whole_is_out = any(one.strategy.kind == "whole" and not one.strategy.sliced and one.refused for one in seen)
    return f"{fits}; a whole pass does not fit" if whole_is_out else fits
