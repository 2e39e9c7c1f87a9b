"""Running one job in strips, with the numbers of a single pass."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import lru_cache, partial
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.component import CallScope
from ..backends.opened_ahead import OpenedAhead
from ..backends.sessions import Sessions
from ..bundle.graph import Graph
from ..bundle.profiles import Profile
from ..calls.jobs import Job
from ..calls.strip_settings import StripSettings
from ..calls.workload import Workload
from .activations import ActivationStore
from .strip_pass import StripPass
from .strip_plan import Step, StripSize, plan_steps, strip_for

__all__ = ["PART_FOR_TILES", "plan_strips", "run_strips", "strip_rows"]

PART_FOR_TILES = 0.125  # of the budget; the rest is for activations that wait
_LEAST_SCORES_BYTES = 32 << 20  # queries one by one would take forever
_KEPT_PLANS = 16  # pictures often have the size of an earlier one


def plan_strips(
    graphs: Sequence[Graph],
    settings: StripSettings,
    work: Workload,
    batch: int,
    profiles: Callable[[Graph], tuple[Profile, ...]] | None = None,
) -> tuple[Step, ...]:
    """The steps for `batch` pictures of the workload's size.

    Args:
        profiles: the sizes that the engines of a graph were built for; strips then lie within these. None: any.
    """
    if settings.memory_bytes is None:
        settings = replace(settings, memory_bytes=settings.budget_bytes)
    if profiles is None:
        return _planned(tuple(graphs), settings, work, batch)
    strip = _strip_size(graphs, settings, work, batch).within(graphs, profiles, work.cells[0] * work.cells[1])
    return _steps(graphs, strip, work, batch)


@lru_cache(_KEPT_PLANS)
def _planned(graphs: tuple[Graph, ...], settings: StripSettings, work: Workload, batch: int) -> tuple[Step, ...]:
    return _steps(graphs, _strip_size(graphs, settings, work, batch), work, batch)


def _strip_size(graphs: Sequence[Graph], settings: StripSettings, work: Workload, batch: int) -> StripSize:
    rows = strip_rows(graphs, settings, batch, work.size, work.cells)
    budget = int(PART_FOR_TILES * settings.budget_bytes)
    return StripSize(rows, settings.columns or work.size[1], max(budget, _LEAST_SCORES_BYTES))


def _steps(graphs: Sequence[Graph], strip: StripSize, work: Workload, batch: int) -> tuple[Step, ...]:
    sample, cells = (work.size[0], work.size[1]), (work.cells[0], work.cells[1])
    return plan_steps(graphs, cells if work.decodes else sample, cells, batch, strip)


def strip_rows(
    graphs: Sequence[Graph], settings: StripSettings, batch: int, size: Sequence[int], cells: Sequence[int]
) -> int:
    """The pixel rows of a strip of pictures of `size` and latents of `cells`, (height, width) each."""
    budget = int(PART_FOR_TILES * settings.budget_bytes)
    return settings.rows or strip_for(graphs, size[1] // cells[1], size[1], batch, budget, settings.columns)


def run_strips(sessions: Sessions, job: Job, scope: CallScope) -> Any:
    """The whole result.

    Raises:
        BackendUnavailable: the backend runs no strips. OutputError: the disk of the temporary folder is full.
        EngineError, Cancelled: see there.
    """
    settings, work = job.strategy.tiling, job.workload
    assert isinstance(settings, StripSettings)
    if settings.memory_bytes is None:
        settings = replace(settings, memory_bytes=settings.budget_bytes)
    result = job.result.allocated()
    profiles = None if sessions.backend.capabilities.any_size else sessions.backend.profiles
    target = result.out
    assert target is not None
    batches = [1] * work.batch if job.strategy.sliced else [work.batch]
    plans = [plan_strips(job.strip_graphs, settings, work, batch, profiles) for batch in batches]
    total, done = sum(len(step.tiles) for steps in plans for step in steps), count(1)
    memory_bytes, stored = int((1 - PART_FOR_TILES) * (settings.memory_bytes or 0)), np.dtype(settings.storage)
    shared, start = sessions.backend.shared(), 0
    for batch, steps in zip(batches, plans, strict=True):
        stop = start + batch
        with (
            closing(ActivationStore(memory_bytes, settings.folder, np.dtype(np.float32), stored)) as store,
            OpenedAhead(sessions.open_once, [step.graph for step in steps]) as engines,
        ):
            open_step = partial(_open, sessions, scope, engines)
            strips = StripPass(steps, open_step, store, lambda: job.progress(next(done), total))
            part = result if batch == work.batch else result.elements(start, stop)
            strips.run(job.array[start:stop], part.put)
        start = stop
    del shared
    return target


def _open(sessions: Sessions, scope: CallScope, engines: OpenedAhead, graph: Graph) -> Any:
    component: Any = engines(graph)

    def run(inputs: Mapping[str, Any], out: NDArray[Any] | None) -> Any:
        with sessions.turn(scope):
            made = component.step(inputs, call=scope, out=out)
        # A backend may keep what a stream's next step takes; strips are put together on the host.
        return {name: one if isinstance(one, np.ndarray) else np.asarray(one.numpy()) for name, one in made.items()}

    return run
