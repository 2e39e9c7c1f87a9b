"""How a call of an opened bundle runs: as the user has enabled it, or as it is planned."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..arrays.grid import Grid
from ..backends.backend import Backend
from ..backends.choices import ENGINE_BACKENDS
from ..backends.memory_model import MeasuredMemory, RecordedMemory
from ..bundle.manifest import Manifest
from ..calls.strategy import Strategy
from ..calls.strip_settings import StripSettings
from ..calls.workload import Workload
from ..errors import BackendUnavailable, Cancelled, EngineError, InputError, LatentRTError
from ..system.budget import DEFAULT_SHARE, default_budget, parse_memory

if TYPE_CHECKING:
    from .decision import Decision, JudgedStrategy  # which import what only planned calls need

__all__ = ["CallPlanner"]

_log = logging.getLogger(__name__)
_ALWAYS_FITS_BYTES = 1 << 28  # below this nobody looks at how much memory there is
Check = Callable[[], None]


@dataclass(frozen=True)
class CallPlanner:
    """Looks at a call before it runs. The fields are what the bundle was opened with; `alternatives`: gives the other
    backends that may run a call, where the user named none; `planned`: what was found for calls like earlier ones."""

    manifest: Manifest
    backend: Backend
    grid: Grid
    alternatives: Callable[[], tuple[Backend, ...]] = tuple
    planned: dict[Any, Strategy] = field(default_factory=dict)

    def strategy(
        self,
        work: Workload | None,
        enabled: Strategy,
        *,
        memory: int | str | None,
        may_stream: bool,
        check: Check = lambda: None,
    ) -> Strategy:
        """The strategy for a call; `enabled` is what the user has enabled, and `check` is called while it is planned
        and may raise, to stop. `work` is None where the call is not legal, which is then refused elsewhere.

        Raises:
            InputError: `memory` beside tiling, or nothing fits into it. EngineError: the calibration failed.
        """
        plain = Strategy(sliced=enabled.sliced)
        if memory is not None and not _may_be_planned(enabled):
            raise InputError("memory: tiling is enabled, and with memory= the planner chooses; disable_tiling() first")
        budget = None if memory is None else parse_memory(memory)
        if work is None or (memory is None and enabled != plain):
            return enabled
        if work.in_one_pass and enabled.streaming:
            raise InputError(
                "memory: streaming is enabled, and what stays on the device or is made in the caller's stream comes of "
                "one pass; disable_streaming() first"
            )
        can_stream = may_stream and self._can_stream(work, enabled)
        if budget is None and not self._might_not_fit(work, enabled):
            return enabled
        (self.grid.check_latents if work.decodes else self.grid.check_sample)(work.cells if work.decodes else work.size)
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

    def decide(
        self,
        work: Workload,
        budget: int,
        enabled: Strategy,
        *,
        may_stream: bool = True,
        complete: bool = False,
        spend: int | None = None,
        check: Check = lambda: None,
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
        """What a planner decides; None where it could measure nothing."""
        try:
            return planner.decide(*arguments, **options)  # type: ignore[no-any-return]
        except EngineError:
            return None

    def planner(self, check: Check = lambda: None, backend: Backend | None = None) -> Any:
        """The `Planner` of this bundle with a backend (None: the one that it was opened with), and its `Calibration`
        (None where engines' records say what they take).

        Raises:
            BackendUnavailable: the backend runs on a device whose memory nobody knows.
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

    def workload(self, component: str, batch: int, cells: Sequence[int], output: str, **options: Any) -> Workload:
        """A call on latents of `cells`, (T,) H, W, as the planner takes it; `options`: further fields of `Workload`."""
        return Workload(self.manifest.config, self.grid, component, batch, tuple(cells), output, **options)

    def workload_of(self, component: str, array: Any, output: str, *, pad: bool, **options: Any) -> Workload | None:
        """The call on an array as numbers; None where the array has no shape that is legal."""
        shape = tuple(getattr(array, "shape", ()))
        if len(shape) != (5 if self.grid.video else 4) or min(shape) < 1:
            return None
        cells = shape[2:]
        if component == "encoder":
            cells = self.grid.latent_size(self.grid.padded_size(cells) if pad else cells)
        return self.workload(component, shape[0], cells, output, **options) if min(cells) > 0 else None

    def _can_stream(self, work: Workload, enabled: Strategy) -> bool:
        """Whether a clip can go through in chunks as it was asked for."""
        held = self.manifest.find_streams(work.component, self.backend.graph_dtype)
        return bool(held) and not enabled.sliced and not work.in_one_pass

    def _might_not_fit(self, work: Workload, enabled: Strategy) -> bool:
        """Whether a whole pass might take more than the default budget, by a bound that costs nothing."""
        if not isinstance(self.backend.memory, MeasuredMemory):
            return False
        own = replace(work, batch=1) if enabled.sliced else work
        return own.most_bytes > _ALWAYS_FITS_BYTES and own.most_bytes > default_budget()


def _may_be_planned(enabled: Strategy) -> bool:
    """Whether the planner has something to choose: not tiles, and of exact strips their size."""
    strips = enabled.tiling
    return strips is None or (isinstance(strips, StripSettings) and strips.memory_bytes is None)
