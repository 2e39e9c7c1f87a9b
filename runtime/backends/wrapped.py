"""A backend around another one: for measuring, logging and tests."""

from collections.abc import Callable
from pathlib import Path

from ..bundle.graph import Graph
from ..bundle.manifest import Manifest
from ..bundle.profiles import Profile
from .backend import Backend
from .component import Component

__all__ = ["WrappedBackend"]


class WrappedBackend(Backend):
    """Opens graphs as `inner` does, and gives what `wrap` makes of each component. All else is the inner backend's.

    Args:
        inner: the backend that opens graphs.
        wrap: gets the graph and its component, and gives the component that runs in its place.
    """

    def __init__(self, inner: Backend, wrap: Callable[[Graph, Component], Component]) -> None:
        self.name, self.device, self.memory = inner.name, inner.device, inner.memory
        self.dtype, self.graph_dtype, self.capabilities = inner.dtype, inner.graph_dtype, inner.capabilities
        self._inner, self._wrap = inner, wrap

    @property
    def label(self) -> str:
        return self._inner.label

    def for_bundle(self, manifest: Manifest) -> "WrappedBackend":
        inner = self._inner.for_bundle(manifest)
        return self if inner is self._inner else WrappedBackend(inner, self._wrap)

    def open(self, graph: Graph, file: Path, *, dtype: str) -> Component:
        return self._wrap(graph, self._inner.open(graph, file, dtype=dtype))

    def profiles(self, graph: Graph) -> tuple[Profile, ...]:
        return self._inner.profiles(graph)

    def shared(self) -> object:
        return self._inner.shared()
