"""Host overhead: the time of a call in which the GPU neither computes nor copies."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from .clock import median_seconds, seconds_of
from .features import tiled
from .processes import Measures
from .subject import Subject

__all__ = ["covered_seconds", "engine_spans", "overhead_measures"]

Span = tuple[float, float]
"""Start and end, in seconds."""
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
    output, vae = "uint8" if way == "uint8" else "float32", subject.vae
    with engine_spans(vae) as spans, tiled(vae, subject.case) if way == "tiles" else _as_it_is():

        def call() -> Any:
            return subject.run(vae, subject.array, output)

        for _ in range(2):
            call()
        seconds = median_seconds(call, subject.device)
        spans.clear()
        whole = seconds_of(call, subject.device)
        engine_share = covered_seconds(spans) / whole
        if subject.device == "cpu":
            return {"seconds": seconds, "engine_share": engine_share, "host_share": 1 - engine_share}
        busy = covered_seconds(_gpu_spans(call))
    found = {"seconds": seconds, "engine_share": engine_share}
    if not busy:
        return found | {
            "says": "torch's profiler recorded nothing on the GPU: is CUPTI installed, and is profiling allowed?"
        }
    return found | {"gpu_seconds": busy, "host_share": 1 - busy / seconds}


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


@contextmanager
def engine_spans(vae: Any) -> Iterator[list[Span]]:
    """Yield a list to which the engine calls of an autoencoder are added while the body runs. Engines are reopened."""
    spans: list[Span] = []
    sessions, backend = vae._sessions, vae._sessions.backend
    sessions.backend = replace(backend, open=lambda path: _Watched(backend.open(path), spans))
    vae.release()
    try:
        yield spans
    finally:
        sessions.backend = backend
        vae.release()


class _Watched:
    """A component whose calls are recorded. All other attributes are those of the component."""

    def __init__(self, inner: Any, spans: list[Span]) -> None:
        self._inner, self._spans = inner, spans

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def run(self, *arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return self._inner.run(*arguments, **options)
        finally:
            self._spans.append((started, time.perf_counter()))


def _gpu_spans(call: Callable[[], Any]) -> list[Span]:
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


def covered_seconds(spans: Iterable[Span]) -> float:
    """Return the seconds that are covered by at least one span."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(stop - max(start, end), 0.0)
        end = max(end, stop)
    return total
