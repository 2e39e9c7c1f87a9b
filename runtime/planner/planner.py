"""From a size and a memory budget to a strategy: the fastest exact strategy that fits, or else the fastest other."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ...tiling.argument_names import argument
from ..bundle.manifest import Manifest
from ..calls.strategy import Strategy
from ..calls.strip_settings import StripSettings
from ..calls.workload import Workload
from ..errors import EngineError, InputError
from .candidates import candidates, strips_within
from .costs import Cost, Costing, plan_of
from .decision import OVER_BUDGET, Decision, JudgedStrategy, reason_of, refusal_of
from .quick_costs import QuickCosts
from .tuning import LEAST_STRIP_BYTES, SKIP_MEASURING_SHARE, STRIP_BUDGET_SHARES, WHOLE_OVER_TILE

__all__ = ["Planner"]

_log = logging.getLogger(__name__)


class Planner:
    """Decides for one bundle on one backend.

    Args:
        manifest: the bundle.
        costs: gives the costs of strategies on the backend.
        dtype: the precision of the graphs that run.
        backend: the label of the backend, for messages.
        quick: gives costs without measuring, where it can.
    """

    def __init__(
        self,
        manifest: Manifest,
        costs: Costing,
        *,
        dtype: str = "float32",
        backend: str = "",
        quick: QuickCosts | None = None,
    ) -> None:
        self._manifest, self._costs, self._dtype, self._backend = manifest, costs, dtype, backend
        self._quick = quick

    @property
    def measuring(self) -> "Planner":
        """The same planner without bounds: it measures every strategy that it looks at."""
        return Planner(self._manifest, self._costs, dtype=self._dtype, backend=self._backend)

    def decide(
        self,
        work: Workload,
        budget: int,
        base: Strategy,
        *,
        may_stream: bool = True,
        complete: bool = False,
        approximate: bool = True,
        spend: int | None = None,
    ) -> Decision:
        """The fastest exact strategy within the budget. If none fits, the fastest other strategy.

        The first strategy of each kind (a pass, a stream, strips) that fits stands for its kind: shorter chunks, lower
        strips and single elements of a batch only hold less. Strips are looked at if no pass and no stream fits.
        Inexact strategies are looked at if no exact strategy fits, in the order of their work, and the first that fits
        is taken. If not even the smallest pieces fit, the budget is refused once these are measured.

        A strategy is not measured where its bounds decide (see `Decision.rests_on_bounds`).

        Args:
            work: the call.
            budget: the bytes that it may take.
            base: what the user has set.
            may_stream: whether streams are looked at.
            complete: list all strategies. Tiles that were not measured are estimated.
            approximate: whether inexact strategies are looked at.
            spend: the bytes that measuring may take. None: the budget.

        Raises:
            EngineError: no strategy could be measured.
        """
        most = budget if spend is None else spend
        least = [] if complete else self._least(work, budget, base, may_stream, most, approximate)
        if least and all(one.refused for one in least):
            return self._refused(budget, least, approximate)
        seen: list[JudgedStrategy] = []
        fitting: list[JudgedStrategy] = []  # one of each kind

        def look_at(kind: Iterable[Strategy]) -> None:
            judged: list[JudgedStrategy] = []
            for strategy in kind:
                judged.append(self._judged(work, strategy, budget, most))
                if judged[-1].refused is None and not complete:
                    break
            seen.extend(judged)
            fitting.extend([one for one in judged if one.refused is None][:1])

        exact = [one for one in self._every(work, base, may_stream) if is_exact(work, one)]
        for streaming in (False, True):
            look_at(one for one in exact if one.streaming is streaming)
        may_cut = may_stream or base.streaming if work.grid.video else not base.streaming
        if (complete or not fitting) and may_cut and not work.in_one_pass:
            strips = base.tiling if isinstance(base.tiling, StripSettings) else StripSettings()
            look_at(self._strips(work, budget, strips, most, base.frames_per_chunk))
        if not approximate:
            fitting = [one for one in fitting if one.is_exact]
        chosen = min(fitting, key=lambda one: one.seconds, default=None)
        if approximate and (complete or chosen is None):
            others = [self._about(work, one, budget, most) for one in self._approximate(work, base, may_stream)]
            for about in sorted(others, key=lambda one: one.seconds):
                near = about.cost is not None and SKIP_MEASURING_SHARE * about.cost.most_bytes <= budget
                one = self._judged(work, about.strategy, budget, most) if near and chosen is None else about
                seen.append(one)
                if chosen is None and one.refused is None:
                    chosen = one
                    if not complete:
                        break
        if chosen is None:
            least = [one for one in least if approximate or one.is_exact]
            chosen = min((one for one in least if one.refused is None), key=lambda one: one.seconds, default=None)
            seen.extend(one for one in least if one is chosen)
        if not any(one.cost for one in seen):
            reasons = dict.fromkeys(one.refused for one in seen if one.refused)
            raise EngineError(f"nothing could be planned: {'; '.join(reasons) or 'no strategy is left'}")
        if chosen is None:
            return self._refused(budget, seen, approximate)
        return Decision(budget, tuple(seen), chosen, self._reason(seen, chosen, budget), not approximate)

    def choose(
        self, work: Workload, budget: int, base: Strategy, *, may_stream: bool = True, required: bool = True
    ) -> JudgedStrategy:
        """The strategy to run; see `decide` and `pick`.

        Raises:
            InputError: nothing fits. The message says what would. EngineError: nothing could be measured.
        """
        return self.pick(self.decide(work, budget, base, may_stream=may_stream), work, required=required)

    @staticmethod
    def pick(decision: Decision, work: Workload, *, required: bool = True) -> JudgedStrategy:
        """The strategy to run. If nothing fits and that is not `required`, the exact strategy that holds least.

        Raises:
            InputError: nothing fits. The message says what would.
        """
        if decision.chosen is None:
            least = min(
                (one for one in decision.candidates if one.is_exact), key=lambda one: one.most_bytes, default=None
            )
            if required or least is None or least.cost is None:
                raise InputError(f"{argument('memory')}: {decision.reason}")
            _log.warning("%s may not fit: %s; it runs as %s", work.component, decision.reason, least.label)
            return least
        chosen = decision.chosen
        level = logging.INFO if chosen.is_exact else logging.WARNING
        _log.log(level, "%s: %s", work.component, decision.reason)
        return chosen

    def _refused(self, budget: int, seen: Sequence[JudgedStrategy], approximate: bool) -> Decision:
        """The decision if nothing fits."""
        return Decision(budget, tuple(seen), None, refusal_of(seen, budget, approximate), not approximate)

    def _reason(self, seen: Sequence[JudgedStrategy], chosen: JudgedStrategy, budget: int) -> str:
        return reason_of(seen, chosen, budget, self._backend)

    def _least(
        self, work: Workload, budget: int, base: Strategy, may_stream: bool, most: int, approximate: bool
    ) -> list[JudgedStrategy]:
        """Judge the strategy of each kind that holds least memory, until one fits. Empty if the budget is so large that
        something fits in any case."""
        every = [one for one in self._every(work, base, may_stream) if approximate or is_exact(work, one)]
        every.sort(key=lambda one: (_piece(work, one).most_bytes, one.frames_per_chunk or 0))
        kept = work.result_bytes() if work.output != "frames" else 0
        around = work.input_bytes + kept + sum(file.size_bytes for file in self._manifest.files)
        if not every or budget >= _piece(work, every[0]).most_bytes + around:
            return []
        found: list[JudgedStrategy] = []
        for one in self._smallest(work, every, most):
            # The smallest tile is measured at any cost: there is nothing smaller from which to predict it.
            found.append(self._judged(work, one, budget, None if one.kind == "tiles" else most))
            if found[-1].refused is None:
                break
        return found if any(one.cost for one in found) else []

    def _smallest(self, work: Workload, every: Sequence[Strategy], most: int) -> Iterator[Strategy]:
        """The strategy of each kind that has the smallest pieces, which come first in `every`. For streams in tiles the
        smallest tiles do not hold least, because they overlap more and each holds its states. These come last, when a
        stream was measured."""
        smallest: dict[str, Strategy] = {}
        for one in every:
            smallest.setdefault(one.kind, one)
        smallest.pop("stream + tiles", None)
        if "tiles" in smallest and "whole" in smallest:
            tile, whole = (_piece(work, smallest[kind]).most_bytes for kind in ("tiles", "whole"))
            if whole > WHOLE_OVER_TILE * tile:
                del smallest["whole"]
        yield from smallest.values()
        if not work.in_one_pass and (not work.grid.video or any(one.streaming for one in every)):
            strips = strips_within(self._manifest, work, LEAST_STRIP_BYTES, dtype=self._dtype)
            if strips is not None:
                yield strips
        about = [self._about(work, one, most, most) for one in every if one.kind == "stream + tiles"]
        least = min(about, key=lambda one: one.most_bytes, default=None)
        if least is not None and least.cost is not None:
            yield least.strategy

    def _approximate(self, work: Workload, base: Strategy, may_stream: bool) -> Iterable[Strategy]:
        """The strategies with tiles, each plan once: tiles that are larger than the sample give equal plans."""
        plans: dict[tuple[Any, ...], Strategy] = {}
        for one in self._every(work, base, may_stream):
            if not is_exact(work, one):
                lines = plan_of(work, one).lines
                spans = [[(piece.cells.start, piece.cells.stop) for piece in line.pieces] for line in lines]
                plans.setdefault((one.streaming, one.frames_per_chunk, one.sliced, str(spans)), one)
        return plans.values()

    def _every(self, work: Workload, base: Strategy, may_stream: bool) -> Iterator[Strategy]:
        if isinstance(base.tiling, StripSettings):
            return
        sizes = self._costs.tile_sizes(work)
        for one in candidates(self._manifest, work, base, dtype=self._dtype, sizes=sizes):
            if work.in_one_pass and (one.kind != "whole" or one.sliced is not base.sliced):
                continue
            if may_stream or base.streaming or not one.streaming:
                yield one

    def _about(self, work: Workload, strategy: Strategy, budget: int, most: int) -> JudgedStrategy:
        """A strategy with tiles, judged by an estimate."""
        reason, cost = _piece(work, strategy).too_large, None
        try:
            if reason is None:
                cost = self._known(work, strategy, budget, most) or self._costs.about(work, strategy, most)
        except EngineError as error:
            reason = str(error)
        return self._candidate(work, strategy, cost, reason, budget)

    def _strips(
        self, work: Workload, budget: int, settings: StripSettings, most: int, frames_per_chunk: int | None
    ) -> list[Strategy]:
        """Strips in the largest share of the budget that fits, or in the least that they need."""
        left = budget - work.input_bytes - (0 if work.output == "frames" else work.result_bytes())
        found = []
        for share in STRIP_BUDGET_SHARES:
            strips = strips_within(
                self._manifest, work, max(int(share * left), LEAST_STRIP_BYTES), settings, dtype=self._dtype
            )
            if strips is None:
                break
            strips = replace(strips, frames_per_chunk=frames_per_chunk if strips.streaming else None)
            found = [strips]
            if self._judged(work, strips, budget, most).refused is None:
                break
        return found

    def _judged(self, work: Workload, strategy: Strategy, budget: int, most: int | None) -> JudgedStrategy:
        reason = None if isinstance(strategy.tiling, StripSettings) else _piece(work, strategy).too_large
        cost = None
        try:
            if reason is None:
                cost = self._known(work, strategy, budget, most) or self._costs.of(work, strategy, most)
        except EngineError as error:
            reason = str(error)
        return self._candidate(work, strategy, cost, reason, budget)

    def _known(self, work: Workload, strategy: Strategy, budget: int, most: int | None) -> Cost | None:
        return None if self._quick is None else self._quick.of(work, strategy, budget, most)

    def _candidate(
        self, work: Workload, strategy: Strategy, cost: Cost | None, reason: str | None, budget: int
    ) -> JudgedStrategy:
        over = OVER_BUDGET if cost is not None and cost.most_bytes > budget else None
        label, exact = strategy.label(work.grid, work.cells), is_exact(work, strategy)
        return JudgedStrategy(strategy, label, exact, cost, reason or over, self._backend)


def is_exact(work: Workload, strategy: Strategy) -> bool:
    if isinstance(strategy.tiling, StripSettings):
        return strategy.is_exact
    return strategy.is_exact or plan_of(work, strategy).count == 1


def _piece(work: Workload, strategy: Strategy) -> Workload:
    """The part of the work that one engine call does, as far as the sizes of its tensors matter."""
    if strategy.sliced:
        work = replace(work, batch=1)
    if isinstance(strategy.tiling, StripSettings):
        return work
    if strategy.tiling is not None:
        tile = plan_of(work, strategy).largest
        work = replace(work, cells=(work.cells[:1] if strategy.streaming else ()) + tile)
    if strategy.streaming:
        frames = -(-(strategy.frames_per_chunk or 1) // work.grid.temporal)
        work = replace(work, cells=(min(work.cells[0], frames + 3), *work.cells[1:]))
    return work
