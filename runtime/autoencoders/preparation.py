"""What can be done before calls: show their tiles, plan them, measure for plans, and warm the engines up."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...tiling.argument_names import argument
from ..calls.conditions import neutral_conditions
from ..calls.options import DecodeOptions, EncodeOptions
from ..calls.strategy import Strategy, Tiling
from ..calls.strip_settings import StripSettings
from ..calls.workload import Workload
from ..errors import BackendUnavailable, InputError
from ..execution.run import run, run_in_groups
from .opened_bundle import OpenedBundle

if TYPE_CHECKING:
    from ...tiling import Plan
    from ..arrays.grid import Grid
    from ..planner.calibration import Calibration
    from ..planner.decision import Decision

__all__ = ["PlannedCall", "calibrate", "plan", "run_strategy", "tile_plan", "warm_up"]

_OUTPUTS = ("float32", "uint8", "device", "frames")
_MORE_THAN_ANY_CALL = 1 << 60  # bytes


@dataclass(frozen=True)
class PlannedCall:
    """A call that is only planned; the fields are the arguments of `Autoencoder.plan`."""

    size: tuple[int, ...]
    component: str
    batch: int
    memory: int | str | None
    exact: bool
    output: str
    in_chunks: bool
    caller_bytes: int
    complete: bool


def plan(opened: OpenedBundle, enabled: Strategy, call: PlannedCall, *, may_stream: bool) -> "Decision":
    """See `Autoencoder.plan`."""
    if call.output not in _OUTPUTS:
        raise InputError(f"{argument('output')} must be one of {', '.join(_OUTPUTS)}, got {call.output!r}")
    if isinstance(call.batch, bool) or not isinstance(call.batch, int) or call.batch < 1:
        raise InputError(f"{argument('batch')}: wanted a whole number of at least 1, got {call.batch!r}")
    _check_component("plan", call.component)
    opened.grid.check_sample(call.size)
    opened.jobs.graph(call.component, None)
    work = Workload(
        opened.manifest.config,
        opened.grid,
        call.component,
        call.batch,
        opened.grid.latent_size(call.size),
        call.output,
        comes_in_chunks=call.in_chunks,
        in_one_pass=call.output == "device",
        caller_bytes=call.caller_bytes,
    )
    return opened.planning.plan(
        work, enabled, call.memory, may_stream=may_stream, complete=call.complete, may_approximate=not call.exact
    )


def calibrate(opened: OpenedBundle, enabled: Strategy, size: Sequence[int], components: Sequence[str]) -> "Calibration":
    """See `Autoencoder.calibrate`."""
    planner, calibration = opened.planning.planner()
    if calibration is None:
        label = opened.backend.label
        raise BackendUnavailable(
            f"{label}: nothing to measure, since the records of its engines say how much memory calls take"
        )
    opened.grid.check_sample(size)
    spend = opened.planning.default_budget()
    for component in components or opened.manifest.components:
        work = Workload(opened.manifest.config, opened.grid, component, 1, opened.grid.latent_size(size))
        planner.measuring.decide(work, _MORE_THAN_ANY_CALL, enabled, complete=True, spend=spend)
    return calibration  # type: ignore[no-any-return]


def run_strategy(
    opened: OpenedBundle, strategy: Strategy, component: str, array: Any, *, specialise: bool | None = None
) -> None:
    """See `Autoencoder.run_strategy`."""
    if component == "encoder":
        job = opened.jobs.encode(array, strategy, EncodeOptions(specialise=specialise, check_range=False))
    else:
        neutral = neutral_conditions(opened.manifest.config, array.shape[0])
        job = opened.jobs.decode(array, strategy, DecodeOptions(specialise=specialise, **neutral))
    with opened.engines.call() as scope:
        if job.kind == "stream" and component == "decoder":
            for _ in run_in_groups(opened.engines, job, scope):
                pass
        else:
            run(opened.engines, job, scope)


def tile_plan(grid: "Grid", tiling: Tiling, component: str, sample_size: Sequence[int]) -> "Plan":
    """See `Autoencoder.tile_plan`."""
    _check_component("tile_plan", component)
    grid.check_sample(sample_size)
    if isinstance(tiling, StripSettings):
        raise InputError("tile_plan: strips are cut step by step and have no plan; enable tiling without exact=True")
    return tiling.plan(grid, "encode" if component == "encoder" else "decode", grid.latent_size(sample_size))


def warm_up(
    opened: OpenedBundle,
    enabled: Strategy,
    shapes: Sequence[tuple[int, ...]],
    components: Sequence[str],
    *,
    may_stream: bool,
) -> None:
    """See `Autoencoder.warmup`."""
    if not shapes:
        for component in components:
            opened.load(component, streaming=enabled.over(opened.grid).streaming)
    for component, shape in _warmup_calls(opened, shapes, components):
        zeros = np.zeros(shape, np.float32)
        if component == "encoder":
            to_encode = EncodeOptions(specialise=True)
            opened.run(opened.jobs.encode(zeros, enabled, to_encode, may_stream=may_stream), to_encode)
        else:
            to_decode = DecodeOptions(specialise=True, **neutral_conditions(opened.manifest.config, shape[0]))
            opened.run(opened.jobs.decode(zeros, enabled, to_decode, may_stream=may_stream), to_decode)


def _check_component(method: str, component: str) -> None:
    if component not in ("encoder", "decoder"):
        raise InputError(f"{method}: the component is 'encoder' or 'decoder', got {component!r}")


def _warmup_calls(
    opened: OpenedBundle, shapes: Iterable[tuple[int, ...]], components: Sequence[str]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The component and its input's shape, call after call. A shape is a sample's, (B, in_channels, ...), for encoder
    and decoder, or latents', (B, latent_channels, ...), for the decoder. Components that the bundle lacks, or that are
    not among `components`, are left out.

    Raises:
        InputError: a shape that is neither, when it is its turn.
    """
    config, grid = opened.manifest.config, opened.grid
    held, rank = set(opened.manifest.components) & set(components), 5 if grid.video else 4
    for shape in shapes:
        if len(shape) != rank or shape[1] not in (config.in_channels, config.latent_channels):
            raise InputError(
                f"warmup: wanted shapes of samples (B, {config.in_channels}, ...) or latents "
                f"(B, {config.latent_channels}, ...) with {rank} axes, got {shape}"
            )
        latent_shape = shape
        if shape[1] == config.in_channels:
            grid.check_sample(shape[2:])
            latent_shape = (shape[0], config.latent_channels, *grid.latent_size(shape[2:]))
            if "encoder" in held:
                yield "encoder", shape
        if "decoder" in held:
            yield "decoder", latent_shape
