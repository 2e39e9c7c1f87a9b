"""Host overhead: the time of a call in which the GPU neither computes nor copies."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from typing import Any

from .clock import median_seconds, seconds_of
from .features import tiled
from .processes import Measures
from .subject import Subject

__all__ = ["covered_seconds", "overhead_measures"]

Span = tuple[float, float]
"""A start and an end, in seconds."""
_WAYS = ("on the host", "uint8", "tiles")


def overhead_measures(subject: Subject) -> Measures:
    """Return the measurements for results on the host: as float32, as pixels, and tile by tile."""
    by = subject.contender.name
    return {(f"host overhead, {way}", by): partial(_overhead, subject, way) for way in _WAYS}


def _overhead(subject: Subject, way: str) -> dict[str, Any]:
    """Measure the shares of a call.

    `host_share` is the share in which the GPU neither computes nor copies, by CUPTI's record. `engine_share` is the
    share of engine calls, with their copies and waits. Without a GPU, `host_share` is the rest of `engine_share`.
    """
    from benchmarks.timed_backend import TimedBackend  # here: what LatentRT needs may be installed only now

    output, backend = "uint8" if way == "uint8" else "float32", TimedBackend(subject.backend())
    with subject.opened_on(backend) as vae, tiled(vae, subject.case) if way == "tiles" else nullcontext():

        def call() -> Any:
            return subject.run(vae, subject.array, output)

        for _ in range(2):
            call()
        seconds = median_seconds(call, subject.device)
        backend.spans.clear()
        whole = seconds_of(call, subject.device)
        engine_share = covered_seconds(backend.spans) / whole
        if subject.device == "cpu":
            return {"seconds": seconds, "engine_share": engine_share, "host_share": 1 - engine_share}
        busy = covered_seconds(_gpu_spans(call))
    found = {"seconds": seconds, "engine_share": engine_share}
    if not busy:
        return found | {
            "says": "torch's profiler recorded nothing on the GPU: is CUPTI installed, and is profiling allowed?"
        }
    return found | {"gpu_seconds": busy, "host_share": 1 - busy / seconds}


def _gpu_spans(call: Callable[[], Any]) -> "list[Span]":
    """Return the spans in which the GPU computed or copied during a call: CUPTI's record, by torch's profiler."""
    import torch
    from torch._C._autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as found:
        call()
        torch.cuda.synchronize()
    events = [one for one in found.events() if one.device_type == DeviceType.CUDA]
    return [
        (1e-6 * one.time_range.start, 1e-6 * one.time_range.end)
        for one in events
        if not getattr(one, "is_user_annotation", False)
    ]


def covered_seconds(spans: "Iterable[Span]") -> float:
    """Return the seconds that are covered by at least one span."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(stop - max(start, end), 0.0)
        end = max(end, stop)
    return total
