"""How much of a call is the host's: what is neither computed nor copied by the GPU."""

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
"""From when to when, in seconds."""
_WAYS = ("on the host", "uint8", "tiles")


def overhead_measures(subject: Subject) -> Measures:
    """For calls whose result comes to the host, as float32, as pixels, and tile by tile."""
    by = subject.contender.name
    return {(f"host overhead, {way}", by): partial(_overhead, subject, way) for way in _WAYS}


def _overhead(subject: Subject, way: str) -> dict[str, Any]:
    """`host_share`: the part of a call in which the GPU neither computes nor copies, by its own record. `engine_share`:
    the part that is spent in engine calls, which hold their copies and waits. Without a GPU the host's share is the
    rest of that."""
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
        return found | {"says": "torch's profiler saw nothing on the GPU: is CUPTI there, and allowed?"}
    return found | {"gpu_seconds": busy, "host_share": 1 - busy / seconds}


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


@contextmanager
def engine_spans(vae: Any) -> Iterator[list[Span]]:
    """The list that engine calls of an autoencoder are entered in, while the body runs. Its engines are opened anew."""
    spans: list[Span] = []
    sessions, backend = vae.opened.engines.own, vae.opened.engines.own.backend
    sessions.backend = replace(backend, open=lambda path: _Watched(backend.open(path), spans))
    vae.release()
    try:
        yield spans
    finally:
        sessions.backend = backend
        vae.release()


class _Watched:
    """A component whose calls are entered; everything else is its own."""

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
    """When the GPU computed or copied during a call, whoever asked it to: CUPTI's record, through torch's profiler."""
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
    """The time within any of the spans."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(stop - max(start, end), 0.0)
        end = max(end, stop)
    return total
