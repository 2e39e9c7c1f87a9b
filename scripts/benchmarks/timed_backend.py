"""A backend whose engine calls are timed, for `open_bundle(backend=...)`."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from latentrt.runtime.backends.backend import Backend
from latentrt.runtime.backends.choose import choose_backend
from latentrt.runtime.backends.component import Component
from latentrt.runtime.backends.wrapped import WrappedBackend
from latentrt.runtime.bundle.graph import Graph
from latentrt.runtime.bundle.manifest import Manifest

__all__ = ["Span", "TimedBackend", "timed_backend"]

Span = tuple[float, float]
"""The start and the end of an engine call, in seconds of `time.perf_counter`."""


class TimedBackend(WrappedBackend):
    """Adds a span to `spans` for every call of an engine.

    Args:
        inner: the backend that runs the engines.
        opening: add a span for every opening of an engine too.
    """

    def __init__(self, inner: Backend, *, opening: bool = False) -> None:
        super().__init__(inner, lambda graph, component: _TimedComponent(component, self.spans))
        self.spans: list[Span] = []
        self._times_opening = opening

    def open(self, graph: Graph, file: Path, *, dtype: str) -> Component:
        started = time.perf_counter()
        component = super().open(graph, file, dtype=dtype)
        if self._times_opening:
            self.spans.append((started, time.perf_counter()))
        return component


def timed_backend(bundle: Path, *, opening: bool = False, **options: Any) -> TimedBackend:
    """Return the backend that `choose_backend` chooses for a bundle with these options, with timed calls."""
    return TimedBackend(choose_backend(Manifest.open(bundle), **options), opening=opening)


class _TimedComponent:
    """A component whose calls are timed. `step` is called only if `inner` is capable of it."""

    def __init__(self, inner: Any, spans: list[Span]) -> None:
        self._inner, self._spans = inner, spans

    @property
    def capabilities(self) -> Any:
        return self._inner.capabilities

    def run(self, *arguments: Any, **options: Any) -> Any:
        return self._timed(self._inner.run, *arguments, **options)

    def step(self, *arguments: Any, **options: Any) -> Any:
        return self._timed(self._inner.step, *arguments, **options)

    def _timed(self, call: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return call(*arguments, **options)
        finally:
            self._spans.append((started, time.perf_counter()))
