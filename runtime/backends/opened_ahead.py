"""Engines that run one after the other, each opened while the engine before it computes."""

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from ..bundle.graph import Graph

__all__ = ["OpenedAhead"]


class OpenedAhead:
    """Gives the engines of graphs in their order. A thread opens one engine ahead of the caller. Leaving the context
    frees an engine that was opened and not asked for.

    Args:
        open_engine: opens the engine of a graph.
        graphs: the graphs, in the order in which their engines are asked for.
    """

    def __init__(self, open_engine: Callable[[Graph], Any], graphs: Iterable[Graph]) -> None:
        from concurrent.futures import ThreadPoolExecutor  # here: importing it takes longer than this package

        self._open, self._graphs = open_engine, iter(graphs)
        self._opener = ThreadPoolExecutor(1, "latentrt-open")
        self._next: Any = None
        self._begin()

    def __call__(self, graph: Graph) -> Any:
        """The engine of the next graph.

        Raises:
            BundleError, EngineError: the engine does not open.
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
