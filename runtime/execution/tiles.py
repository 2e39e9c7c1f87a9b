"""Running one job in overlapping tiles, which are blended where the result is kept."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...tiling import Plan, Span, Tile, apply
from ..arrays.boundary import Result
from ..backends.component import CallScope
from ..backends.sessions import Sessions
from ..calls.jobs import Job
from ..calls.tiling_settings import TilingSettings
from ..calls.workload import peak_estimate_bytes
from .run import run_engine

__all__ = ["run_tiles", "tile_groups"]

Array = NDArray[np.float32]


def run_tiles(sessions: Sessions, job: Job, scope: CallScope) -> Any:
    """The whole result. Tiles are blended in the caller's array if the caller wants float32.

    Raises:
        EngineError, Cancelled: see there.
    """
    result = job.result.allocated()
    target, pixels = result.out, result.output == "uint8"
    assert target is not None

    def make(span: Span) -> Array:
        return _group_array(result, span) if pixels else target[:, :, span.as_slice()]

    for span, group in _groups(sessions, job, scope, make):
        if pixels:
            result.put(group, span.start)
    return target


def tile_groups(sessions: Sessions, job: Job, scope: CallScope) -> Iterator[Array]:
    """The result in float32, group by group along the first trailing axis, each an array of its own.

    Raises:
        EngineError, Cancelled: see there.
    """
    for _, group in _groups(sessions, job, scope, lambda span: _group_array(job.result, span)):
        yield group
        del group  # or it would be held while the next one is made


def _groups(
    sessions: Sessions, job: Job, scope: CallScope, make: Callable[[Span], Array]
) -> Iterator[tuple[Span, Array]]:
    plan, tiling = job.tiles, job.strategy.tiling
    assert plan is not None
    assert isinstance(tiling, TilingSettings)
    batch = (1 if job.strategy.sliced else job.workload.batch) * tiling.tiles_per_call
    scope.peak_estimate_bytes = peak_estimate_bytes(replace(job.workload, batch=batch, cells=plan.largest))
    component = sessions.component(job.graph)  # the first call loads it, after everything is checked

    def run(part: Array, tiles: Sequence[Tile], into: Array) -> None:
        call = _job_of(job, plan, part, tiles, into)
        if not job.strategy.sliced:
            run_engine(sessions, component, call, scope)
            return
        for index in range(part.shape[0]):
            run_engine(sessions, component, call.element(index, call.result), scope)

    noisy = job.conditions is not None and job.conditions.noise  # noise belongs to one place, so tiles run one by one
    yield from apply(
        plan,
        run,
        job.array,
        channels=job.result.shape[1],
        make=make,
        at_once=1 if noisy else tiling.tiles_per_call,
        in_flight=sessions.backend.capabilities.calls_in_flight,
        on_tile=job.progress,
        on_abort=scope.cancel,
    )


def _job_of(job: Job, plan: Plan, part: Array, tiles: Sequence[Tile], into: Array) -> Job:
    """The job of some tiles that run as one batch."""
    conditions = job.conditions
    if conditions is not None:
        conditions = conditions.of_tiles(tiles, tuple(line.cells for line in plan.lines))
    return replace(job, array=part, conditions=conditions, result=Result(into.shape, into.shape[2:], out=into))


def _group_array(result: Result, span: Span) -> Array:
    return np.empty((*result.shape[:2], len(span), *result.size[1:]), np.float32)
