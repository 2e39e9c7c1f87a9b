"""Running one encode or decode as an exact pass: from a checked job to the caller's output."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.boundary import pixel_shape, to_output
from ..backends.component import CallScope, stepping
from ..backends.opened_ahead import OpenedAhead
from ..backends.sessions import Sessions
from ..bundle.graph import Graph
from ..bundle.profiles import Profile
from ..calls.jobs import Job
from ..calls.strip_settings import StripSettings
from ..errors import InputError
from .activations import ActivationStore
from .strip_pass import StripPass
from .strip_plan import Step, StripSize, plan_steps, strip_for

__all__ = ["PART_FOR_TILES", "plan_strips", "run_strips", "strip_rows"]

PART_FOR_TILES = 0.125  # of the budget; the rest is for activations that wait
_LEAST_SCORES_BYTES = 32 << 20  # queries one by one would take forever


def plan_strips(job: Job, profiles: Callable[[Graph], tuple[Profile, ...]] | None = None) -> tuple[Step, ...]:
    """The steps of the job, or of one of its elements; where steps have `profiles`, in tiles within these."""
    assert job.exact is not None
    settings, graphs = job.exact, job.segments
    batch, _, height, width = job.array.shape
    cells = min((height, width), job.shape[2:])  # encoding makes them, decoding takes them
    pixels = max(width, job.shape[3])
    rows = strip_rows(graphs, settings, batch, (0, pixels), cells)
    budget = int(PART_FOR_TILES * settings.budget_bytes)
    strip = StripSize(rows, settings.columns or pixels, max(budget, _LEAST_SCORES_BYTES))
    if profiles is not None:
        strip = strip.within(graphs, profiles, cells[0] * cells[1])
    return plan_steps(graphs, (height, width), (cells[0], cells[1]), batch, strip)


def strip_rows(
    graphs: Sequence[Graph], settings: StripSettings, batch: int, size: Sequence[int], cells: Sequence[int]
) -> int:
    """The pixel rows of a strip of pictures of `size` and latents of `cells`, (height, width) each."""
    budget = int(PART_FOR_TILES * settings.budget_bytes)
    return settings.rows or strip_for(graphs, size[1] // cells[1], size[1], batch, budget, settings.columns)


def run_strips(sessions: Sessions, job: Job, *, output: str, out: NDArray[Any] | None) -> Any:
    """Run the job; the result in the form `output` and, if that is given, in `out`.

    Raises:
        InputError: an output on the device. BackendUnavailable: a backend that has no steps. OutputError: the disk of
        the temporary folder is full. EngineError, Cancelled: see there.
    """
    assert job.exact is not None
    if output == "device":
        raise InputError("output='device' gives the engine's own result: not with exact strips")
    shape = job.wanted_shape
    target = np.empty(pixel_shape(shape) if output == "uint8" else shape, output) if out is None else out
    elements = list(job.elements())
    profiles = None if sessions.backend.capabilities.any_size else sessions.backend.profiles
    plans = [plan_strips(element, profiles) for element in elements]
    total, done = sum(len(step.tiles) for steps in plans for step in steps), 0

    def on_tile() -> None:
        nonlocal done
        done += 1
        job.progress(done, total)

    memory_bytes = int((1 - PART_FOR_TILES) * job.exact.budget_bytes)
    with sessions.call(job.specialise, token=job.cancel) as call:
        shared = sessions.backend.shared()
        start = 0
        for element, steps in zip(elements, plans, strict=True):
            stop = start + element.shape[0]
            stored = np.dtype(job.exact.storage)
            with (
                ActivationStore(memory_bytes, job.exact.folder, np.dtype(np.float32), stored) as store,
                OpenedAhead(sessions.open_once, [step.graph for step in steps]) as engines,
            ):
                exact = StripPass(steps, partial(_open, sessions, call, engines), store, on_tile)
                exact.run(element.array, partial(_write, target[start:stop], job.size, output))
            start = stop
        del shared
    return target


def _open(sessions: Sessions, call: CallScope, engines: OpenedAhead, graph: Graph) -> Any:
    refusal = f"backend {sessions.backend.label} runs no exact strips: open the bundle with backend='onnxruntime'"
    component = stepping(engines(graph), refusal)

    def run(inputs: Mapping[str, Any], out: NDArray[Any] | None) -> Any:
        with sessions.turn(call):
            return component.step(inputs, call=call, out=out)

    return run


def _write(
    target: NDArray[Any], size: tuple[int, ...], output: str, rows: slice, columns: slice, tile: NDArray[np.float32]
) -> None:
    """Put a tile, (B, C, rows, columns), where it belongs in what is wanted of the result."""
    height, width = size
    rows, columns = slice(rows.start, min(rows.stop, height)), slice(columns.start, min(columns.stop, width))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    inside = tile[:, :, : rows.stop - rows.start, : columns.stop - columns.start]
    if output == "uint8":
        target[:, rows, columns] = to_output(inside, output, None)
    else:
        target[:, :, rows, columns] = inside
