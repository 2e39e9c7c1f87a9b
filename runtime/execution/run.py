"""Running one job: in one pass, one batch element at a time, in tiles, in strips, or as a stream."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..arrays.boundary import check_shape, pixel_shape, to_output
from ..backends.component import CallScope, Component
from ..backends.sessions import EngineSets, Sessions
from ..bundle.graph import Graph
from ..calls.jobs import Job
from ..calls.strategy import Strategy, Way
from ..calls.strip_settings import StripSettings
from ..calls.workload import peak_estimate_bytes

__all__ = ["run", "run_engine", "run_in_groups", "sessions_for"]

_WAYS: dict[str, Way] = {
    "whole": "whole",
    "sliced": "whole",
    "tiles": "whole",
    "strips": "strips",
    "stream": "stream",
}  # by the kind of a job, which graphs it runs


def run(engines: EngineSets, job: Job, scope: CallScope) -> Any:
    """The result of a job whose strategy is settled, in the form and the array that the caller asked for.

    Raises:
        EngineError: an engine failed, or gave another shape. Cancelled: `scope` was cancelled. BackendUnavailable: the
            backend cannot run the job in this way. OutputError: strips lie in files, and the disk is full.
    """
    sessions = sessions_for(engines, job.strategy, job.specialise, scope, _WAYS[job.kind], job.graph)
    match job.kind:
        case "whole":
            scope.peak_estimate_bytes = peak_estimate_bytes(job.workload)
            made = run_engine(sessions, sessions.component(job.graph), job, scope)
            if job.result.output != "device":
                job.progress(1, 1)
            return made
        case "sliced":
            return _run_sliced(sessions, job, scope)
        case "tiles":
            from .tiles import run_tiles  # here, as below: a whole pass does not import what the other ways take

            return run_tiles(sessions, job, scope)
        case "strips":
            from .strips import run_strips

            return run_strips(sessions, job, scope)
        case "stream":
            from .stream import run_stream

            return run_stream(sessions, job, scope)


def run_in_groups(engines: EngineSets, job: Job, scope: CallScope) -> Iterator[Any]:
    """The result group by group along the first trailing axis, each an array of its own, as soon as it is final.
    Without tiles and streams there is one group. Nothing runs before the first group is asked for.

    Raises:
        EngineError, Cancelled: as `run`.
    """
    match job.kind:
        case "stream":
            from .stream import stream_frames

            sessions = sessions_for(engines, job.strategy, job.specialise, scope, _WAYS[job.kind], job.graph)
            yield from stream_frames(sessions, job, scope)
        case "tiles":
            from .tiles import tile_groups

            sessions = sessions_for(engines, job.strategy, job.specialise, scope, _WAYS[job.kind], job.graph)
            for group in tile_groups(sessions, job, scope):
                result = to_output(group, job.result.output, None)
                del group  # or it would be held while the next one is made
                yield result
                del result
        case _:
            yield run(engines, job, scope)


def sessions_for(
    engines: EngineSets, strategy: Strategy, specialise: bool | None, scope: CallScope, way: Way, graph: Graph
) -> Sessions:
    """The engines that a job runs on, which have passed their test. The scope is set so that they specialise for this
    shape, or do not.

    A strategy for a memory budget runs on engines that are not specialised. They take less memory, and the planner
    measured these.

    Args:
        engines, strategy, specialise, scope: those of the job.
        way: which graphs the job runs. A stream may run in strips.
        graph: the component's whole graph, or the first stage of a stream.

    Raises:
        SelftestError: the engines did not pass their test.
    """
    scope.check()  # planning may have taken long
    sessions = engines.of(strategy)
    if way == "stream" and isinstance(strategy.tiling, StripSettings):
        way = "stream in strips"
    if engines.proof is not None and (sessions, way, graph.component, graph.causal) not in engines.proven:
        engines.proof(sessions, way, graph, scope)
    scope.specialise = False if strategy.budgeted else specialise
    return sessions


def run_engine(sessions: Sessions, component: Component, job: Job, scope: CallScope) -> Any:
    """One engine call for a whole job. The engine writes into the caller's array if it can."""
    result = job.result
    pixels = result.output == "uint8" and component.capabilities.pixels
    options: dict[str, Any] = {"out": result.written_by_engine(pixels=pixels)}
    if pixels:
        options["pixels"] = True
    if job.stream is not None:
        options["stream"] = job.stream
    if result.output == "device":
        options["keep_on_device"] = True
    inputs = {job.name: job.array}
    if job.conditions is not None:
        inputs |= job.conditions.inputs()
    with sessions.turn(scope):
        made = component.run(inputs, call=scope, **options)
    check_shape(made, pixel_shape(result.shape) if pixels else result.shape, job.graph.file)
    return result.whole(made)


def _run_sliced(sessions: Sessions, job: Job, scope: CallScope) -> Any:
    scope.peak_estimate_bytes = peak_estimate_bytes(replace(job.workload, batch=1))
    component, batch, result = sessions.component(job.graph), job.workload.batch, job.result.allocated()
    for index in range(batch):
        run_engine(sessions, component, job.element(index, result), scope)
        job.progress(index + 1, batch)
    return result.out
