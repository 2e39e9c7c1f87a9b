"""A result with NaN or infinity is run again in a wider precision, or refused: never a black picture."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.boundary import is_finite, to_output
from ..bundle.graph import Graph
from ..bundle.manifest import Manifest
from ..errors import EngineError, LatentRTError
from .component import CallScope, Component, NotFinite

__all__ = ["RetriesInFloat32", "wider_graph"]

_log = logging.getLogger(__name__)


def wider_graph(manifest: Manifest, graph: Graph) -> Graph | None:
    """The bundle's float32 graph that takes and gives the same, or None. (A stage of a stream has none: its states, and
    what the stages before it gave, are of the lower precision already.)"""
    if graph.stage is not None:
        return None
    alike = graph.component, graph.causal, graph.strip_stage
    for other in (*manifest.graphs, *manifest.strip_graphs):
        if other.dtype == "float32" and (other.component, other.causal, other.strip_stage) == alike:
            return other
    return None


class RetriesInFloat32:
    """A `Component` of low precision whose results are looked at; `open_wider` opens what to run again with, on the
    first need, and is None where there is nothing wider, or where it would be too late (`streams`). `file` and `dtype`
    are for the messages.

    Each engine call is looked at by itself, so with tiling only the tile that overflowed runs twice. Engines that say
    `NotFinite` themselves (`tells_finite`) are believed, wherever their result is; of other backends a result that
    stays on the device is copied to the host to be looked at. A step's states are not: what is wrong there shows in
    later results.
    """

    def __init__(
        self,
        component: Component,
        file: str,
        dtype: str,
        open_wider: Callable[[], Component] | None,
        *,
        streams: bool = False,
    ) -> None:
        self._component: Any = component  # of a graph, or of a streaming one
        self._file = file
        self._dtype = dtype
        self._open_wider = open_wider
        self._streams = streams
        self._told = False

    def run(
        self,
        inputs: Mapping[str, Any],
        *,
        call: CallScope,
        out: NDArray[Any] | None = None,
        keep_on_device: bool = False,
        **options: Any,
    ) -> Any:
        options |= {"out": out, "keep_on_device": keep_on_device}
        try:
            result = self._component.run(inputs, call=call, **options)
        except NotFinite as found:
            bad, size = found.bad, found.size
        else:
            values = result if self._is_told else _on_host(result)
            if not isinstance(values, np.ndarray) or values.dtype == np.uint8 or is_finite(values):
                return result
            bad, size = _count(values)
        wider = self._wider(bad, size, call)
        if options.get("pixels") and not getattr(wider, "gives_pixels", False):
            del options["pixels"], options["out"]
            return to_output(wider.run(inputs, call=call, **options), "uint8", out)
        return wider.run(inputs, call=call, **options)

    @property
    def _is_told(self) -> bool:
        return getattr(self._component, "tells_finite", False)

    @property
    def gives_pixels(self) -> bool:
        return getattr(self._component, "gives_pixels", False)

    @property
    def keeps_results(self) -> bool:
        return getattr(self._component, "keeps_results", False)

    @property
    def reuses_states(self) -> bool:
        """Not where a step may be run again, from the states that it was given."""
        return self._streams and getattr(self._component, "reuses_states", False)

    def step(self, inputs: Mapping[str, Any], *, call: CallScope, **options: Any) -> dict[str, Any]:
        try:
            results: dict[str, Any] = self._component.step(inputs, call=call, **options)
        except NotFinite as found:
            bad, size = found.bad, found.size
        else:
            first = next(iter(results.values()))
            if not isinstance(first, np.ndarray) or first.dtype == np.uint8 or is_finite(first):
                return results
            bad, size = _count(first)
        return self._wider(bad, size, call).step(inputs, call=call, **options)  # type: ignore[no-any-return]

    def _wider(self, bad: int, size: int, call: CallScope) -> Any:
        what = f"{self._file}: {bad} of {size} values are NaN or infinite in {self._dtype}"
        if self._open_wider is None and self._streams:
            raise EngineError(
                f"{what}, and a stream cannot go back to its start: open the bundle with dtype='float32', or export "
                f"with --check-range SAMPLES, which keeps in float32 what overflows"
            )
        if self._open_wider is None:
            raise EngineError(
                f"{what}, and the bundle holds no float32 graph to run again with: export with --dtype float32 beside "
                f"it, or with --check-range SAMPLES, which keeps in float32 what overflows"
            )
        call.check()
        try:
            component = self._open_wider()
        except LatentRTError as error:
            raise EngineError(f"{what}, and the float32 graph cannot run instead: {error}") from error
        _log.log(logging.DEBUG if self._told else logging.WARNING, "%s: run again in float32", what)
        self._told = True
        return component


def _on_host(result: Any) -> NDArray[Any]:
    return result if isinstance(result, np.ndarray) else np.asarray(result.numpy())


def _count(result: NDArray[Any]) -> tuple[int, int]:
    """How many values are NaN or infinite, and how many there are."""
    return int(np.count_nonzero(~np.isfinite(result))), result.size
