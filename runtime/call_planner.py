"""How a call of an opened bundle runs: as the user has enabled it, or as it is planned."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .backends import Backend
from .budget import default_budget, parse_memory
from .candidates import has_faster_streams
from .errors import BackendUnavailable, InputError, LatentRTError
from .grid import Grid
from .manifest import Manifest
from .strategy import Strategy
from .workload import Workload

__all__ = ["CallPlanner"]

_log = logging.getLogger(__name__)
_ALWAYS_FITS_BYTES = 1 << 28  # below this nobody looks at how much memory there is


@dataclass(frozen=True)
class CallPlanner:
    """Looks at a call before it runs. The fields are what the bundle was opened with."""

    manifest: Manifest
    backend: Backend
    grid: Grid
    dtype: str
    threads: int | None
    session_options: Mapping[str, Any] | None

    def strategy(
        self,
        component: str,
        array: Any,
        enabled: Strategy,
        *,
        memory: int | str | None,
        output: str,
        pad: bool,
        may_stream: bool,
    ) -> Strategy:
        """The strategy for a call on `array`, a sample or latents; `enabled` is what the user has enabled.

        Raises:
            InputError: `memory` beside tiling, or nothing fits into it. EngineError: the calibration failed.
        """
        if memory is not None and enabled.tiling is not None:
            raise InputError("memory: tiling is enabled, and with memory= the planner chooses; disable_tiling() first")
        budget = None if memory is None else parse_memory(memory)
        if memory is None and enabled != Strategy(sliced=enabled.sliced):
            return enabled
        can_stream = may_stream and self._can_stream(component, enabled, output)
        work = self._workload_of(component, array, output, pad)
        if work is None or (budget is None and not self._might_not_fit(work, enabled)):
            streams = can_stream and self.streams_faster(component)
            return replace(enabled, streaming=True) if streams else enabled
        (self.grid.check_latents if work.decodes else self.grid.check_sample)(work.cells if work.decodes else work.size)
        allowed = default_budget() if budget is None else budget
        try:
            planner, _ = self.planner()
            chosen: Strategy = planner.choose(work, allowed, enabled, may_stream=may_stream).strategy
        except LatentRTError as error:
            if budget is not None:
                raise
            way = "streams, which holds least" if can_stream else "runs whole"
            _log.warning("%s %s, and may not fit: it was not planned (%s)", component, way, error)
            return replace(enabled, streaming=can_stream)
        return replace(chosen, budgeted=True)

    def planner(self) -> Any:
        """The `Planner` of this bundle with this backend, and its `Calibration`.

        Raises:
            BackendUnavailable: the backend runs on a device whose memory is not measured.
        """
        from .calibration import Calibration  # here: a call that is not planned does not pay for it
        from .planner import Planner
        from .probe import EngineChoice

        backend = self.backend
        if backend.device != "cpu":
            raise BackendUnavailable(
                f"memory: calls are planned for the host's memory, and {backend.label} takes the GPU's: enable tiling"
            )
        engine = EngineChoice(backend.name, backend.provider or None, self.dtype, self.threads, self.session_options)
        calibration = Calibration(self.manifest, engine)
        planner = Planner(
            self.manifest, backend.name, calibration, dtype=self.dtype, streams_faster=backend.takes_cpu_files
        )
        return planner, calibration

    def workload(self, component: str, batch: int, cells: Sequence[int], output: str) -> Workload:
        """A call on latents of `cells`, (T,) H, W, as the planner takes it."""
        return Workload(self.manifest.config, self.grid, component, batch, tuple(cells), output)

    def _workload_of(self, component: str, array: Any, output: str, pad: bool) -> Workload | None:
        """The call as numbers; None where the array has no shape that is legal, which is then refused elsewhere."""
        shape = tuple(getattr(array, "shape", ()))
        if len(shape) != (5 if self.grid.video else 4) or min(shape) < 1:
            return None
        cells = shape[2:]
        if component == "encoder":
            cells = self.grid.latent_size(self.grid.padded_size(cells) if pad else cells)
        return self.workload(component, shape[0], cells, output) if min(cells) > 0 else None

    def streams_faster(self, component: str) -> bool:
        """Whether chunks of a clip are the faster way to the same numbers: a backend has faster graphs for them."""
        return self.backend.takes_cpu_files and has_faster_streams(self.manifest, component, self.backend.graphs)

    def _can_stream(self, component: str, enabled: Strategy, output: str) -> bool:
        """Whether a clip can go through in chunks as it was asked for."""
        held = self.manifest.find_streams(component, self.backend.graphs)
        return bool(held) and not enabled.sliced and output != "device"

    def _might_not_fit(self, work: Workload, enabled: Strategy) -> bool:
        """Whether a whole pass might take more than the default budget, by a bound that costs nothing."""
        if self.backend.device != "cpu":
            return False
        own = replace(work, batch=1) if enabled.sliced else work
        return own.most_bytes > _ALWAYS_FITS_BYTES and own.most_bytes > default_budget()
