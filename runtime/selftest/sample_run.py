"""Running one golden sample: whole, as a stream, in strips, or as a stream in strips."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.component import CallScope
from ..backends.sessions import EngineSets
from ..calls.conditions import DECODE_TIMESTEP
from ..calls.jobs import Jobs
from ..calls.options import DecodeOptions, EncodeOptions
from ..calls.strategy import WHOLE, Strategy, Way
from ..calls.strip_settings import StripSettings
from ..execution.run import run
from .golden_samples import SEED, GoldenSample

__all__ = ["run_sample"]

_SMALLEST = StripSettings(memory_bytes=1)  # strips that cut every stage
_STREAM = Strategy(streaming=True, frames_per_chunk=8)  # short chunks, so that states pass between several steps


def run_sample(
    engines: EngineSets,
    jobs: Jobs,
    sample: GoldenSample,
    way: Way,
    causal: bool | None,
    scope: CallScope,
    backend: str | None = None,
) -> NDArray[np.float32]:
    """Run a sample and return the result, float32: moments (1, 2 * C, ...) or a sample (1, C, ...).

    Args:
        engines: the engines.
        jobs: makes the job.
        sample: the golden sample.
        way: how it runs.
        causal: causality of the graph of a video model. A stream has the config's own.
        scope: the user call that waits for the test.
        backend: the label of the backend. None: the backend that the bundle was opened with.

    Raises:
        InputError: the engines take no sample of this size. EngineError: an engine failed. Cancelled: see there.
    """
    encodes = sample.component == "encoder"
    strategy = WHOLE
    if way == "stream":
        strategy, causal = _STREAM, None
    elif way == "stream in strips":
        strategy, causal = replace(_STREAM, tiling=_SMALLEST), None
    elif way == "strips":
        height = sample.input.shape[1] // jobs.config.spatial_ratio if encodes else sample.input.shape[2]
        strategy = Strategy(tiling=StripSettings(rows=max(height // 2, 1) * jobs.config.spatial_ratio))
    strategy = replace(strategy, backend=backend)
    common: dict[str, Any] = {"causal": causal, "specialise": False}
    if encodes:
        job = jobs.encode(sample.input, strategy, EncodeOptions(check_range=False, **common))
    else:
        temb = DECODE_TIMESTEP if jobs.config.timestep_conditioning else None
        job = jobs.decode(sample.input, strategy, DecodeOptions(temb=temb, rng=SEED, **common))
    return np.asarray(run(engines, job, scope))
