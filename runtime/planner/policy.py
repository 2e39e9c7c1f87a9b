"""How a call runs: as the user enabled it, or as the planner finds best."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ...tiling.argument_names import argument
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
from .tuning import ALWAYS_FITS_BYTES

if TYPE_CHECKING:
    from .decision import Decision, JudgedStrategy  # which import what only planned calls need

__all__ = ["CallPlanner"]

_log = logging.getLogger(__name__)
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
            if most <= ALWAYS_FITS_BYTES or most <= default_budget():
                return job
        may: dict[str, Any] = {"may_stream": job.may_stream, "may_approximate": job.may_approximate}
        strategy = self.strategy(work, enabled, memory, **may, check=check)
        return job if strategy == enabled else replace(job, strategy=strategy)

    def strategy(
        self,
        work: Workload,
        enabled: Strategy,
        memory: int | str | None,
        *,
        may_stream: bool,
        may_approximate: bool = True,
        check: Check = _go_on,
    ) -> Strategy:
        """The planned strategy for a call; `enabled` is what the user enabled.

        Raises:
            InputError: `memory` with tiling enabled, or nothing fits into it. EngineError: the calibration failed.
        """
        if memory is not None and not _may_be_planned(enabled):
            raise InputError(
                f"{argument('memory')}: tiling is enabled, and with {argument('memory')}= the planner chooses; "
                "disable_tiling() first"
            )
        budget = None if memory is None else parse_memory(memory)
        can_stream = may_stream and self._can_stream(work, enabled)
        key = (work, budget, enabled, can_stream, may_approximate)
        if budget is not None and key in self.planned:
            return self.planned[key]
        try:
            from .planner import Planner  # here: a call that is not planned does not pay for it

            allowed = self.default_budget() if budget is None else budget
            decision = self.decide(
                work, allowed, enabled, may_stream=can_stream, may_approximate=may_approximate, check=check
            )
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
        self,
        work: Workload,
        enabled: Strategy,
        memory: int | str | None,
        *,
        may_stream: bool,
        complete: bool,
        may_approximate: bool = True,
    ) -> "Decision":
        """What `settle` would decide for a call with this budget (None: the default one), with every strategy that was
        looked at. With `complete` all are looked at, and measured in as much memory as calls without a budget get.

        Raises:
            InputError: `memory` is no budget, or tiling is enabled. EngineError: no strategy could be measured.
        """
        if not _may_be_planned(enabled):
            raise InputError(
                f"{argument('memory')}: tiling is enabled, and with {argument('memory')}= the planner chooses; "
                "disable_tiling() first"
            )
        default = self.default_budget()
        budget = default if memory is None else parse_memory(memory)
        spend = max(budget, default) if complete else None
        can_stream = may_stream and self._can_stream(work, enabled)
        may: dict[str, Any] = {"may_stream": can_stream, "may_approximate": may_approximate}
        return self.decide(work, budget, enabled, **may, complete=complete, spend=spend)

    def decide(
        self,
        work: Workload,
        budget: int,
        enabled: Strategy,
        *,
        may_stream: bool = True,
        may_approximate: bool = True,
        complete: bool = False,
        spend: int | None = None,
        check: Check = _go_on,
    ) -> "Decision":
        """The fastest exact strategy of all backends that may run the call. If none has one, the fastest approximate
        strategy of the first backend that has one.

        Backends are in order of their speed. So if a whole pass fits on the first backend, the others are not measured.
        Strategies are not measured where their bounds decide. But a bound alone never refuses a call, and never leads
        to an approximate strategy: then everything is measured after all. The arguments are those of `Planner.decide`.

        Raises:
            EngineError: no strategy could be measured. BackendUnavailable: as in `planner`.
        """
        options: dict[str, Any] = {"may_stream": may_stream, "spend": spend, "complete": complete}
        options |= {"may_approximate": may_approximate, "check": check}
        found = self._decide(work, budget, enabled, **options, bounded=True)
        return self._decide(work, budget, enabled, **options, bounded=False) if found.rests_on_bounds else found

    def _decide(
        self,
        work: Workload,
        budget: int,
        enabled: Strategy,
        *,
        may_stream: bool,
        may_approximate: bool,
        complete: bool,
        spend: int | None,
        check: Check,
        bounded: bool,
    ) -> "Decision":
        """See `decide`. With `bounded` nothing is measured where bounds decide."""
        options: dict[str, Any] = {"may_stream": may_stream, "spend": spend, "complete": complete}
        backends = (self.backend, *self.alternatives())
        if len(backends) == 1:
            own, _ = self.planner(check)
            own = own if bounded else own.measuring
            return own.decide(work, budget, enabled, **options, approximate=may_approximate)  # type: ignore[no-any-return]
        seen: Decision | None = None
        for backend in backends:
            found = self._decided(
                backend, check, bounded, work, budget, enabled, **options, approximate=complete and may_approximate
            )
            if found is not None:
                seen = found if seen is None else seen.together_with(found)
            if found is not None and found.chosen is not None and found.chosen.strategy.kind == "whole":
                break
        if seen is not None and seen.chosen is not None:
            return seen.compared_with(self.backend.label)
        if seen is not None and (complete or not may_approximate):
            return seen
        for backend in backends if may_approximate else ():
            found = self._decided(backend, check, bounded, work, budget, enabled, **options)
            if found is not None:
                seen = found if seen is None else seen.together_with(found)
            if found is not None and found.chosen is not None:
                break
        if seen is None:
            raise EngineError(f"nothing could be planned on {', '.join(one.label for one in backends)}")
        return seen

    def _decided(
        self, backend: Backend, check: Check, bounded: bool, *arguments: Any, **options: Any
    ) -> "Decision | None":
        """The decision of a backend's planner. None: it could measure nothing."""
        planner, _ = self.planner(check, backend)
        try:
            return (planner if bounded else planner.measuring).decide(*arguments, **options)  # type: ignore[no-any-return]
        except EngineError:
            return None

    def planner(self, check: Check = _go_on, backend: Backend | None = None) -> Any:
        """The `Planner` of this bundle with a backend (None: the one that it was opened with), and its `Calibration`
        (None where engines' records say what they take).

        Raises:
            BackendUnavailable: the backend runs on a device whose use of memory is not known.
        """
        from .bounds import Bounds  # here: a call that is not planned does not pay for it
        from .calibration import Calibration
        from .costs import Costs
        from .planner import Planner
        from .quick_costs import KnownPoints, QuickCosts

        backend = backend or self.backend
        options: dict[str, Any] = {"dtype": backend.graph_dtype, "backend": backend.label}
        match backend.memory:
            case None:
                gpu = "of the GPU's memory " if backend.device == "cuda" else ""
                advice = "give the backend a memory model (`Backend.memory`)"
                if backend.device == "cuda":
                    advice = f"take backend={ENGINE_BACKENDS[0]!r}"
                raise BackendUnavailable(
                    f"{argument('memory')}: it is not known how much {gpu}a call takes on {backend.label}: enable "
                    f"tiling, or {advice}"
                )
            case RecordedMemory():
                from .device_costs import DeviceCosts

                device_costs = DeviceCosts(self.manifest, backend.memory, backend.graph_dtype)
                return Planner(self.manifest, device_costs, **options), None
        calibration = Calibration(self.manifest, backend.memory.reopening, check)
        costs = Costs(self.manifest, backend.memory, calibration, backend.graph_dtype)
        known = Costs(self.manifest, backend.memory, KnownPoints(calibration), backend.graph_dtype)
        bounds = Bounds(self.manifest, backend.memory, backend.graph_dtype, cpu_graphs=backend.capabilities.cpu_graphs)
        return Planner(self.manifest, costs, **options, quick=QuickCosts(known, bounds)), calibration

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
