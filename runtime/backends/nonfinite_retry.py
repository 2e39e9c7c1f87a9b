"""A result with NaN or infinity is run again in a wider precision, or refused: never a black picture."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...tiling.argument_names import argument
from ..arrays.boundary import is_finite, to_output
from ..bundle.graph import Graph
from ..bundle.manifest import Manifest
from ..errors import EngineError, LatentRTError
from .component import CallScope, Component, NotFinite, stepping

__all__ = ["RetriesInFloat32", "wider_graph"]

_log = logging.getLogger(__name__)


def wider_graph(manifest: Manifest, graph: Graph) -> Graph | None:
    """The bundle's float32 graph with the same inputs and outputs, or None. (A stage of a stream has none: its states
    and the results of earlier stages are of the lower precision already.)"""
    if graph.stage is not None:
        return None
    alike = graph.component, graph.causal, graph.strip_stage
    for other in (*manifest.graphs, *manifest.strip_graphs):
        if other.dtype == "float32" and (other.component, other.causal, other.strip_stage) == alike:
            return other
    return None


class RetriesInFloat32:
    """A component of low precision whose results are checked: one with NaN or infinity is computed again in float32.

    Each engine call is checked by itself, so with tiling only the tile that overflowed runs twice. An engine that
    counts NaN and infinity itself (`counts_nonfinite`) is believed, on whichever device its result is. Of other
    backends a result that stays on the device is copied to the host for the check. The states of a step are not
    checked: a fault there shows in later results.

    Args:
        component: the component of low precision.
        file: the graph file, for messages.
        dtype: the precision of the component, for messages.
        open_wider: opens the component of the same graph in float32, when it is first needed. None: there is none, or
            it would be too late, because the component runs a stream.
        streams: whether the component runs a stage of a stream.
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
        self._component = component
        self._file = file
        self._dtype = dtype
        self._open_wider = open_wider
        self._streams = streams
        self._has_warned = False
        can = component.capabilities
        # A step that may run again needs the states that it was given.
        self.capabilities = replace(can, reuses_states=streams and can.reuses_states)

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
            values = result if self.capabilities.counts_nonfinite else _on_host(result)
            if not isinstance(values, np.ndarray) or values.dtype == np.uint8 or is_finite(values):
                return result
            bad, size = _count(values)
        wider = self._wider(bad, size, call)
        if options.get("pixels") and not wider.capabilities.pixels:
            del options["pixels"], options["out"]
            return to_output(wider.run(inputs, call=call, **options), "uint8", out)
        return wider.run(inputs, call=call, **options)

    def step(self, inputs: Mapping[str, Any], *, call: CallScope, **options: Any) -> dict[str, Any]:
        component = stepping(self._component, f"{self._file}: the backend runs no steps")
        try:
            results = component.step(inputs, call=call, **options)
        except NotFinite as found:
            bad, size = found.bad, found.size
        else:
            first = next(iter(results.values()))
            if not isinstance(first, np.ndarray) or first.dtype == np.uint8 or is_finite(first):
                return results
            bad, size = _count(first)
        wider = stepping(self._wider(bad, size, call), f"{self._file}: the float32 graph runs no steps")
        return wider.step(inputs, call=call, **options)

    def _wider(self, bad: int, size: int, call: CallScope) -> Component:
        fault = f"{self._file}: {bad} of {size} values are NaN or infinite in {self._dtype}"
        if self._open_wider is None and self._streams:
            raise EngineError(
                f"{fault}, and a stream cannot go back to its start: open the bundle with "
                f"{argument('dtype', 'float32')}, or export "
                f"with --check-range SAMPLES, which keeps in float32 what overflows"
            )
        if self._open_wider is None:
            raise EngineError(
                f"{fault}, and the bundle holds no float32 graph to run again with: export with --dtype float32 "
                f"too, or with --check-range SAMPLES, which keeps in float32 what overflows"
            )
        call.check()
        try:
            component = self._open_wider()
        except LatentRTError as error:
            raise EngineError(f"{fault}, and the float32 graph cannot run instead: {error}") from error
        _log.log(logging.DEBUG if self._has_warned else logging.WARNING, "%s: run again in float32", fault)
        self._has_warned = True
        return component


def _on_host(result: Any) -> NDArray[Any]:
    return result if isinstance(result, np.ndarray) else np.asarray(result.numpy())


def _count(result: NDArray[Any]) -> tuple[int, int]:
    """How many values are NaN or infinite, and how many there are."""
    return int(np.count_nonzero(~np.isfinite(result))), result.size
