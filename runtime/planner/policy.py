"""How a call runs: as the user enabled it, or as the planner finds best."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..backends.backend import Backend
from ..backends.choices import ENGINE_BACKENDS
from ..backends.memory_model import RecordedMemory
from ..bundle.manifest import Manifest
from ..calls.jobs import Job
from ..calls.strategy import Strategy
from ..calls.strip_settings import StripSettings
from ..calls.workload import Workload, most_bytes
from ..errors import BackendUnavailable, Cancelled, EngineError, InputError, LatentRTError
from ..system.budget import DEFAULT_SHARE, default_budget, parse_memory

if TYPE_CHECKING:
    from .decision import Decision, JudgedStrategy  # which import what only planned calls need

__all__ = ["CallPlanner"]

_log = logging.getLogger(__name__)
_ALWAYS_FITS_BYTES = 1 << 28  # a call that takes no more than this runs without a look at the free memory
Check = Callable[[], None]


def _go_on() -> None:
    """The check of a call that nothing stops. (A lambda could not be pickled with a `Calibration`.)"""


@dataclass(frozen=True)
class CallPlanner:
    """Settles the strategy of each call of one opened bundle.

    Attributes:
        manifest, backend, dtype, threads, session_options: what the bundle was opened with.
        alternatives: gives the other backends that may run a call, if the user named none.
        planned: the strategies of planned calls, by what they depend on.
    """

    manifest: Manifest
    backend: Backend
    alternatives: Callable[[], tuple[Backend, ...]] = tuple
    planned: dict[Any, Strategy] = field(default_factory=dict)

    def settle(self, job: Job, memory: int | str | None, check: Check = _go_on) -> Job:
        """The job with the strategy by which it runs. Without `memory` that is what the user enabled, except where the
        call might not fit into the free memory. `check` is called while something is measured and may raise, to stop.

        Raises:
            InputError: `memory` with tiling enabled, or nothing fits into it. EngineError: the calibration failed.
        """
        work, enabled = job.workload, job.strategy
        if memory is None:
            if enabled != Strategy(sliced=enabled.sliced) or self.backend.device != "cpu":
                return job
            most = most_bytes(replace(work, batch=1) if enabled.sliced else work)
            if most <= _ALWAYS_FITS_BYTES or most <= default_budget():
                return job
        strategy = self.strategy(work, enabled, memory, may_stream=job.may_stream, check=check)
        return job if strategy == enabled else replace(job, strategy=strategy)

    def strategy(
        self,
        work: Workload,
        enabled: Strategy,
        memory: int | str | None,
        *,
        may_stream: bool,
        check: Check = _go_on,
    ) -> Strategy:
        """The planned strategy for a call; `enabled` is what the user enabled.

        Raises:
            InputError: `memory` with tiling enabled, or nothing fits into it. EngineError: the calibration failed.
        """
        if memory is not None and not _may_be_planned(enabled):
            raise InputError("memory: tiling is enabled, and with memory= the planner chooses; disable_tiling() first")
        budget = None if memory is None else parse_memory(memory)
        can_stream = may_stream and self._can_stream(work, enabled)
        key = (work, budget, enabled, can_stream)
        if budget is not None and key in self.planned:
            return self.planned[key]
        try:
            from .planner import Planner  # here: a call that is not planned does not pay for it

            allowed = self.default_budget() if budget is None else budget
            decision = self.decide(work, allowed, enabled, may_stream=can_stream, check=check)
            chosen: JudgedStrategy = Planner.pick(decision, work, required=budget is not None)
        except Cancelled:
            raise
        except LatentRTError as error:
            if budget is not None:
                raise
            way = "streams, which holds least" if can_stream else "runs whole"
            _log.warning("%s %s, and may not fit: it was not planned (%s)", work.component, way, error)
            return replace(enabled, streaming=can_stream)
        other = None if chosen.backend in ("", self.backend.label) else chosen.backend
        most = None if chosen.cost is None else int(chosen.cost.most_bytes)
        self.planned[key] = replace(chosen.strategy, budgeted=True, backend=other, planned_bytes=most)
        return self.planned[key]

    def plan(
        self, work: Workload, enabled: Strategy, memory: int | str | None, *, may_stream: bool, complete: bool
    ) -> "Decision":
        """What `settle` would decide for a call with this budget (None: the default one), with every strategy that was
        looked at. With `complete` all are looked at, and measured in as much memory as calls without a budget get.

        Raises:
            InputError: `memory` is no budget, or tiling is enabled. EngineError: no strategy could be measured.
        """
        if not _may_be_planned(enabled):
            raise InputError("memory: tiling is enabled, and with memory= the planner chooses; disable_tiling() first")
        default = self.default_budget()
        budget = default if memory is None else parse_memory(memory)
        spend = max(budget, default) if complete else None
        can_stream = may_stream and self._can_stream(work, enabled)
        return self.decide(work, budget, enabled, may_stream=can_stream, complete=complete, spend=spend)

    def decide(
        self,
        work: Workload,
        budget: int,
        enabled: Strategy,
        *,
        may_stream: bool = True,
        complete: bool = False,
        spend: int | None = None,
        check: Check = _go_on,
    ) -> "Decision":
        """The fastest exact strategy of the backend that the bundle was opened with, or of the first other one that may
        run the call and has an exact strategy that fits. Where no backend has one, the fastest approximate one. The
        arguments are those of `Planner.decide`.

        Raises:
            EngineError: no strategy could be measured. BackendUnavailable: as in `planner`.
        """
        options: dict[str, Any] = {"may_stream": may_stream, "spend": spend, "complete": complete}
        others = self.alternatives()
        own, _ = self.planner(check)
        if not others:
            decision: Decision = own.decide(work, budget, enabled, **options)
            return decision
        exact = self._decided(own, work, budget, enabled, **options, approximate=False)
        if exact is not None and exact.chosen is not None and exact.chosen.is_exact:
            return exact
        seen = exact
        for backend in others:
            planner, _ = self.planner(check, backend)
            found = self._decided(planner, work, budget, enabled, **options, approximate=False)
            if found is not None:
                seen = found if seen is None else seen.together_with(found)
                if found.chosen is not None and found.chosen.is_exact:
                    own_label = self.backend.label
                    return replace(seen, reason=f"{seen.reason}; on {backend.label}, since none fits on {own_label}")
        approximate: Decision = own.decide(work, budget, enabled, **options)
        for backend in others:
            if approximate.chosen is None:
                planner, _ = self.planner(check, backend)
                found = self._decided(planner, work, budget, enabled, **options)
                approximate = approximate if found is None else approximate.together_with(found)
        return approximate

    @staticmethod
    def _decided(planner: Any, *arguments: Any, **options: Any) -> "Decision | None":
        """The decision of a planner. None: it could measure nothing."""
        try:
            return planner.decide(*arguments, **options)  # type: ignore[no-any-return]
        except EngineError:
            return None

    def planner(self, check: Check = _go_on, backend: Backend | None = None) -> Any:
        """The `Planner` of this bundle with a backend (None: the one that it was opened with), and its `Calibration`
        (None where engines' records say what they take).

        Raises:
            BackendUnavailable: the backend runs on a device whose use of memory is not known.
        """
        from .calibration import Calibration  # here: a call that is not planned does not pay for it
        from .costs import Costs
        from .planner import Planner

        backend = backend or self.backend
        options = {"dtype": backend.graph_dtype, "backend": backend.label}
        match backend.memory:
            case None:
                gpu = "of the GPU's memory " if backend.device == "cuda" else ""
                advice = "give the backend a memory model (`Backend.memory`)"
                if backend.device == "cuda":
                    advice = f"take backend={ENGINE_BACKENDS[0]!r}"
                raise BackendUnavailable(
                    f"memory: it is not known how much {gpu}a call takes on {backend.label}: enable tiling, or {advice}"
                )
            case RecordedMemory():
                from .device_costs import DeviceCosts

                device_costs = DeviceCosts(self.manifest, backend.memory, backend.graph_dtype)
                return Planner(self.manifest, device_costs, **options), None
        calibration = Calibration(self.manifest, backend.memory.reopening, check)
        costs = Costs(self.manifest, backend.memory, calibration, backend.graph_dtype)
        return Planner(self.manifest, costs, **options), calibration

    def default_budget(self) -> int:
        """The budget of a call without `memory=`, in bytes: a share of the memory that is free where the call runs."""
        memory = self.backend.memory
        return int(DEFAULT_SHARE * memory.free_bytes()) if isinstance(memory, RecordedMemory) else default_budget()

    def _can_stream(self, work: Workload, enabled: Strategy) -> bool:
        """Whether a stream can run the call: the bundle has streaming graphs, and the call needs no single pass."""
        held = self.manifest.find_streams(work.component, self.backend.graph_dtype)
        return bool(held) and not enabled.sliced and not work.in_one_pass


def _may_be_planned(enabled: Strategy) -> bool:
    """Whether the planner may choose: tiling is off, or strips are enabled without `memory_bytes`."""
    strips = enabled.tiling
    return strips is None or (isinstance(strips, StripSettings) and strips.memory_bytes is None)
