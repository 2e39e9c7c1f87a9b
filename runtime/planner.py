"""From a size and a memory budget to a strategy: the fastest that fits, and an exact one wherever one fits."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .budget import memory_text
from .calibration import Points
from .candidates import candidates, has_faster_streams, strips_within
from .costs import Cost, Costs, plan_of
from .errors import EngineError, InputError
from .manifest import Manifest
from .strategy import Strategy
from .workload import Workload

__all__ = ["Candidate", "Decision", "Planner"]

_log = logging.getLogger(__name__)
_STRIP_SHARES = (1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1)  # of what the budget leaves for them
_LEAST_STRIPS = 1 << 26
_SURE_SHARE = 0.7  # of an estimate: above the budget even so, nobody measures
_OVER = "more than the budget"


@dataclass(frozen=True)
class Candidate:
    """A strategy with what it would take, or why it is out."""

    strategy: Strategy
    label: str
    is_exact: bool
    cost: Cost | None
    refused: str | None

    def to_json(self) -> dict[str, Any]:
        return {
            "strategy": self.label,
            "kind": self.strategy.kind,
            "exact": self.is_exact,
            "memory_bytes": None if self.cost is None else self.cost.bytes,
            "seconds": None if self.cost is None else self.cost.seconds,
            "refused": self.refused,
        }


@dataclass(frozen=True)
class Decision:
    """`chosen` of `candidates` within `budget` bytes, and `reason`. None was chosen where none fits."""

    budget: int
    candidates: tuple[Candidate, ...]
    chosen: Candidate | None
    reason: str

    def to_json(self) -> dict[str, Any]:
        return {
            "memory_bytes": self.budget,
            "chosen": None if self.chosen is None else self.chosen.label,
            "reason": self.reason,
            "candidates": [candidate.to_json() for candidate in self.candidates],
        }

    def table(self) -> str:
        """For people: one row per strategy, the chosen one marked."""
        rows = [("", "strategy", "memory", "seconds", "exact", "")]
        for candidate in self.candidates:
            cost = candidate.cost
            rows.append(
                (
                    "->" if candidate is self.chosen else "",
                    candidate.label,
                    "-" if cost is None else memory_text(cost.bytes),
                    "-" if cost is None else f"{cost.seconds:.2f}" if cost.seconds < 10 else f"{cost.seconds:.0f}",
                    "yes" if candidate.is_exact else "no",
                    candidate.refused or "",
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, self.reason])


class Planner:
    """Decides for one bundle on one backend. `points` are its measurements, `dtype` its precision, `streams_faster`:
    whether it runs clips faster through streaming graphs in the form for CPUs, where the bundle has them."""

    def __init__(
        self, manifest: Manifest, backend: str, points: Points, *, dtype: str = "float32", streams_faster: bool = False
    ) -> None:
        self._manifest, self._dtype, self._streams_faster = manifest, dtype, streams_faster
        self._costs = Costs(manifest, backend, points)

    def decide(
        self, work: Workload, budget: int, base: Strategy, *, may_stream: bool = True, complete: bool = False
    ) -> Decision:
        """The fastest exact strategy within `budget` bytes or, where none fits, the fastest other one.

        Without `complete` the look-out ends where the strategy that is the fastest of all fits, before anything else is
        calibrated: a whole pass, or the longest chunks where streams are faster. Inexact strategies are looked at only
        where no exact one fits, in the order of their work: the first that fits is taken. A budget into which not even
        the smallest pieces fit is refused when these were measured. With `complete` all are listed; those that were
        not measured themselves are estimated.

        Raises:
            EngineError: no strategy could be measured.
        """
        exact, others = self._exact(work, budget, base, may_stream), self._approximate(work, base, may_stream)
        seen: list[Candidate] = []
        least = [] if complete else self._least(work, budget, base, may_stream)
        if least and all(one.refused for one in least):
            return Decision(budget, tuple(least), None, _reason(least, None, budget))
        for strategy in exact:
            seen.append(self._judged(work, strategy, budget))
            if seen[0].refused is None and not complete:
                break
        chosen = min((one for one in seen if one.refused is None), key=_seconds, default=None)
        if chosen is None or complete:
            for about in sorted((self._about(work, one, budget) for one in others), key=_seconds):
                near = about.cost is not None and _SURE_SHARE * about.cost.bytes <= budget
                one = self._judged(work, about.strategy, budget) if near and chosen is None else about
                seen.append(one)
                if chosen is None and one.refused is None:
                    chosen = one
                    if not complete:
                        break
        if chosen is None:
            chosen = min((one for one in least if one.refused is None), key=_seconds, default=None)
            seen.extend(one for one in least if one is chosen)
        if not any(one.cost for one in seen):
            raise EngineError(f"nothing could be planned: {'; '.join(filter(None, (one.refused for one in seen)))}")
        return Decision(budget, tuple(seen), chosen, _reason(seen, chosen, budget))

    def choose(self, work: Workload, budget: int, base: Strategy, *, may_stream: bool = True) -> Candidate:
        """The strategy to run.

        Raises:
            InputError: nothing fits; the message says what would. EngineError: nothing could be measured.
        """
        decision = self.decide(work, budget, base, may_stream=may_stream)
        if decision.chosen is None:
            raise InputError(f"memory: {decision.reason}")
        chosen = decision.chosen
        level = logging.INFO if chosen.is_exact else logging.WARNING
        _log.log(level, "%s: %s", work.component, decision.reason)
        return chosen

    def _exact(self, work: Workload, budget: int, base: Strategy, may_stream: bool) -> Iterator[Strategy]:
        """The fastest before all others: a whole pass, or a stream."""
        every = [one for one in self._every(work, base, may_stream) if is_exact(work, one)]
        streams, others = ([one for one in every if one.streaming is streaming] for streaming in (True, False))
        if self._streams_faster and has_faster_streams(self._manifest, work.component, self._dtype):
            yield from streams
            streams = []
        yield from others
        if self._manifest.find_segments(work.component, self._dtype):
            yield from self._strips(work, budget)
        yield from streams

    def _least(self, work: Workload, budget: int, base: Strategy, may_stream: bool) -> list[Candidate]:
        """Of each kind of strategy the one of the smallest pieces, up to the first that fits; none where the budget is
        so large that there is no need to look."""
        every = list(self._every(work, base, may_stream))
        every.sort(key=lambda one: (_piece(work, one).most_bytes, one.frames_per_chunk or 0))
        around = work.input_bytes + work.result_bytes() + sum(file.size_bytes for file in self._manifest.files)
        if not every or budget >= _piece(work, every[0]).most_bytes + around:
            return []
        smallest: dict[str, Strategy] = {}
        for one in every:
            smallest.setdefault(one.kind, one)
        if self._manifest.find_segments(work.component, self._dtype):
            strips = strips_within(self._manifest, work, _LEAST_STRIPS)
            smallest |= {} if strips is None else {"strips": strips}
        for tiled, untiled in (("tiles", "whole"), ("stream + tiles", "stream")):
            if tiled in smallest:
                smallest.pop(untiled, None)
        found: list[Candidate] = []
        for one in smallest.values():
            found.append(self._judged(work, one, budget))
            if found[-1].refused is None:
                break
        return found if any(one.cost for one in found) else []

    def _approximate(self, work: Workload, base: Strategy, may_stream: bool) -> Iterator[Strategy]:
        return (one for one in self._every(work, base, may_stream) if not is_exact(work, one))

    def _every(self, work: Workload, base: Strategy, may_stream: bool) -> Iterator[Strategy]:
        for one in candidates(self._manifest, work, base, dtype=self._dtype):
            if may_stream or base.streaming or not one.streaming:
                yield one

    def _about(self, work: Workload, strategy: Strategy, budget: int) -> Candidate:
        """A tiled strategy by what is known without measuring it."""
        reason = _piece(work, strategy).too_large
        try:
            cost = None if reason else self._costs.about(work, strategy)
        except EngineError as error:
            cost, reason = None, str(error)
        if cost is not None and cost.bytes > budget:
            reason = _OVER
        return Candidate(strategy, strategy.label(work.grid), False, cost, reason)

    def _strips(self, work: Workload, budget: int) -> Iterator[Strategy]:
        """Strips in as much of the budget as fits, or in what they need at least."""
        left = budget - work.input_bytes - work.result_bytes()
        fallback = None
        for share in _STRIP_SHARES:
            strips = strips_within(self._manifest, work, max(int(share * left), _LEAST_STRIPS))
            if strips is None:
                return
            fallback = strips
            if self._judged(work, strips, budget).refused is None:
                break
        if fallback is not None:
            yield fallback

    def _judged(self, work: Workload, strategy: Strategy, budget: int) -> Candidate:
        label, exact = strategy.label(work.grid), is_exact(work, strategy)
        piece = _piece(work, strategy)
        if piece.too_large is not None and strategy.kind != "strips":
            return Candidate(strategy, label, exact, None, piece.too_large)
        try:
            cost = self._costs.of(work, strategy)
        except EngineError as error:
            return Candidate(strategy, label, exact, None, str(error))
        over = cost.bytes > budget
        return Candidate(strategy, label, exact, cost, _OVER if over else None)


def is_exact(work: Workload, strategy: Strategy) -> bool:
    return strategy.is_exact or plan_of(work, strategy).count == 1


def _piece(work: Workload, strategy: Strategy) -> Workload:
    """What one engine call does of the work, as far as its tensors' sizes go."""
    if strategy.sliced:
        work = replace(work, batch=1)
    if strategy.kind == "strips":
        return work
    if strategy.tiling is not None:
        tile: Sequence[int] = [max(len(piece.cells) for piece in line.pieces) for line in plan_of(work, strategy).lines]
        work = replace(work, cells=(work.cells[:1] if strategy.streaming else ()) + tuple(tile))
    if strategy.streaming:
        frames = -(-(strategy.frames_per_chunk or 1) // work.grid.temporal)
        work = replace(work, cells=(min(work.cells[0], frames + 3), *work.cells[1:]))
    return work


def _seconds(candidate: Candidate) -> float:
    return candidate.cost.seconds if candidate.cost is not None else float("inf")


def _reason(seen: Sequence[Candidate], chosen: Candidate | None, budget: int) -> str:
    allowed = memory_text(budget)
    if chosen is None:
        least = min((one for one in seen if one.cost), key=lambda one: one.cost.bytes if one.cost else 0)
        assert least.cost is not None
        return (
            f"nothing fits into {allowed}: the least would be {least.label}, in {memory_text(least.cost.bytes)}; "
            f"allow that much, or take a smaller size"
        )
    assert chosen.cost is not None
    fits = f"{chosen.label}: {memory_text(chosen.cost.bytes)} of {allowed}"
    if not chosen.is_exact:
        return f"{fits}; approximate, since no exact strategy fits (tiles change pixels near their seams a little)"
    others = [one for one in seen if one.refused is None and one.is_exact and one is not chosen]
    if others:
        return f"{fits}, the fastest of the exact strategies that fit"
    return f"{fits}" + ("" if chosen.strategy.kind == "whole" else "; a whole pass does not fit")
