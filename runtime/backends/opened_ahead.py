"""Engines that run one after the other, each opened while the one before it is at work."""

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from ..bundle.graph import Graph

__all__ = ["OpenedAhead"]


class OpenedAhead:
    """Gives the engines of `graphs`, which are asked for in this order; `open_engine` opens one, in a thread of this
    one's. At most one waits that nobody has asked for yet. Leaving the context lets it go."""

    def __init__(self, open_engine: Callable[[Graph], Any], graphs: Iterable[Graph]) -> None:
        from concurrent.futures import ThreadPoolExecutor  # here: importing it takes longer than this package

        self._open, self._graphs = open_engine, iter(graphs)
        self._opener = ThreadPoolExecutor(1, "latentrt-open")
        self._next: Any = None
        self._begin()

    def __call__(self, graph: Graph) -> Any:
        """The engine of the next graph.

        Raises:
            BundleError, EngineError: it does not open.
        """
        wanted, opened = self._next
        assert wanted is graph, "engines are asked for in their order"
        engine = opened.result()
        self._begin()
        return engine

    def _begin(self) -> None:
        graph = next(self._graphs, None)
        self._next = None if graph is None else (graph, self._opener.submit(self._open, graph))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._next = None
        self._opener.shutdown(cancel_futures=True)
