"""Running one encode or decode: in one engine call, one call per batch element, or tile by tile."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...tiling import Plan, Span, Tile, apply
from ...tiling.axis import trailing
from ..arrays.boundary import check_output, pixel_shape, to_output
from ..backends.component import CallScope, Component
from ..backends.sessions import Sessions
from ..calls.jobs import Job
from ..errors import InputError
from .result_shape import check_shape

__all__ = ["allocated", "execute", "execute_in_groups"]

Array = NDArray[np.float32]


def execute(
    sessions: Sessions,
    job: Job,
    *,
    output: str,
    out: NDArray[Any] | None = None,
    stream: int | None = None,
) -> Any:
    """Run the job; the result in the form `output` and, if that is given, in `out`.

    Raises:
        InputError: `output` or `out` does not fit the job. EngineError, Cancelled: see there.
    """
    check_output(output, out, job.wanted_shape)
    if stream is not None and not sessions.backend.capabilities.callers_stream:
        raise InputError(f"stream: the backend {sessions.backend.label} takes no stream of the caller's")
    if stream is not None and (job.exact is not None or job.tiled is not None):
        raise InputError("stream: tiles come together on the host, in no stream: disable_tiling(), or leave it out")
    if job.exact is not None:
        from .strips import run_strips  # here: who runs no exact strips does not import what they take

        return run_strips(sessions, job, output=output, out=out)
    plan, jobs = job.tiled, list(job.elements())
    if output == "device" and (plan is not None or len(jobs) > 1 or job.wanted_shape != job.shape):
        raise InputError("output='device' gives the engine's own result: not with tiling, slicing or crop")
    with sessions.call(job.specialise, job.peak_estimate_bytes, job.cancel) as call:
        component = sessions.component(job.graph)  # the first call loads it, after everything is checked
        if plan is not None:
            return _tiled(sessions, call, component, job, plan, output, out)
        if output == "device":
            with sessions.turn(call):
                kept = component.run(_inputs(job), call=call, keep_on_device=True, **_ordered(stream))
            check_shape(kept, job.shape, job.graph.file)
            return kept
        if len(jobs) == 1:
            result = to_output(_whole(sessions, call, component, job, output, out, stream), output, out)
            job.progress(1, 1)
            return result
        out = allocated(job, output) if out is None else out
        for index, element in enumerate(jobs):
            target = out[index : index + 1]
            to_output(_whole(sessions, call, component, element, output, target, stream), output, target)
            job.progress(index + 1, len(jobs))
        return out


def execute_in_groups(sessions: Sessions, job: Job, *, output: str) -> Iterator[Any]:
    """Run the job and give its result group by group along the first trailing axis, each an array of its own as soon
    as it is final. Without tiles that is one group. Nothing runs before the first one is asked for.

    Raises:
        InputError: no such `output`, at once. EngineError, Cancelled: see there.
    """
    check_output(output, None, job.wanted_shape)
    if output == "device":
        raise InputError("output='device' gives one result: groups of frames are float32 or uint8")
    return _in_groups(sessions, job, output)


def _in_groups(sessions: Sessions, job: Job, output: str) -> Iterator[Any]:
    plan = job.tiled
    if plan is None:
        yield execute(sessions, job, output=output)
        return
    with sessions.call(job.specialise, job.peak_estimate_bytes, job.cancel) as call:
        component = sessions.component(job.graph)
        for _, group in _groups(sessions, call, component, job, plan, lambda span: _group_array(job, span)):
            result = to_output(group, output, None)
            del group  # or it would be held while the next one is made
            yield result
            del result


def _tiled(
    sessions: Sessions,
    call: CallScope,
    component: Component,
    job: Job,
    plan: Plan,
    output: str,
    out: NDArray[Any] | None,
) -> Any:
    target = allocated(job, output) if out is None else out
    if output == "float32":  # tiles are blended in the output itself

        def make(span: Span) -> Array:
            return target[:, :, span.as_slice()]

    else:

        def make(span: Span) -> Array:
            return _group_array(job, span)

    for span, group in _groups(sessions, call, component, job, plan, make):
        if output == "uint8":
            to_output(group, output, target[:, span.as_slice()])
    return target


def _groups(
    sessions: Sessions, call: CallScope, component: Component, job: Job, plan: Plan, make: Callable[[Span], Array]
) -> Iterator[tuple[Span, Array]]:
    cells = tuple(line.cells for line in plan.lines)

    def run(part: Array, tiles: Sequence[Tile], into: Array) -> None:
        tile_job = replace(
            job, array=part, conditions=job.conditions.of_tiles(tiles, cells), shape=into.shape, size=into.shape[2:]
        )
        first = 0
        for element in tile_job.elements():
            batch = element.shape[0]
            _whole(sessions, call, component, element, "float32", into[first : first + batch])
            first += batch

    yield from apply(
        plan,
        run,
        job.array,
        channels=job.shape[1],
        make=make,
        at_once=1 if job.conditions.noise else job.tiles_per_call,
        in_flight=sessions.backend.capabilities.calls_in_flight,
        on_tile=job.progress,
        on_abort=call.cancel,
    )


def _whole(
    sessions: Sessions,
    call: CallScope,
    component: Component,
    job: Job,
    output: str,
    out: NDArray[Any] | None,
    stream: int | None = None,
) -> NDArray[Any]:
    """One engine call: float32, or pixels where these are wanted and the engine makes them. It writes into `out` where
    that is possible; the result is to be brought there otherwise."""
    pixels = output == "uint8" and component.capabilities.pixels
    made = pixels or output == "float32"
    direct = made and out is not None and out.flags.c_contiguous and job.shape == job.wanted_shape
    options = _ordered(stream) | ({"pixels": True} if pixels else {})
    with sessions.turn(call):
        result: NDArray[Any] = component.run(_inputs(job), call=call, out=out if direct else None, **options)
    check_shape(result, pixel_shape(job.shape) if pixels else job.shape, job.graph.file)
    wanted = tuple(slice(0, length) for length in job.size)
    return result[:, *wanted] if pixels else result[trailing(wanted)]


def _ordered(stream: int | None) -> dict[str, Any]:
    return {} if stream is None else {"stream": stream}


def _inputs(job: Job) -> dict[str, Any]:
    return {job.name: job.array, **job.conditions.inputs()}


def allocated(job: Job, output: str) -> NDArray[Any]:
    """An array for the job's result in the form `output`."""
    shape = job.wanted_shape
    return np.empty(pixel_shape(shape) if output == "uint8" else shape, np.dtype(output))


def _group_array(job: Job, span: Span) -> Array:
    return np.empty((*job.shape[:2], len(span), *job.size[1:]), np.float32)
