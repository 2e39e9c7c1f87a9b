"""A backend without a library: the smallest object that `open_bundle(backend=...)` takes. It stands for an engine in
tests, and shows what a backend of yours has to bring."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentrt.runtime.backends.backend import Backend
from latentrt.runtime.backends.component import CallScope, Component, ComponentCapabilities
from latentrt.runtime.bundle.graph import Graph

__all__ = ["DoubleBackend", "DoubleComponent"]


class DoubleBackend(Backend):
    """Runs every graph of an image model as `DoubleComponent` does. `opened` and `calls` list what was asked of it."""

    name = "double"

    def __init__(self, ratio: int = 8) -> None:
        self.ratio = ratio
        self.opened: list[str] = []
        self.calls: list[tuple[int, ...]] = []

    def open(self, graph: Graph, file: Path, *, dtype: str) -> Component:
        self.opened.append(file.name)
        return DoubleComponent(graph, self)


class DoubleComponent:
    """The encoder gives the mean of each block of `ratio` x `ratio` pixels in every channel. The decoder gives the mean
    of the latent channels, each cell as a block."""

    capabilities = ComponentCapabilities()

    def __init__(self, graph: Graph, backend: DoubleBackend) -> None:
        (result, *_), self._backend = graph.outputs, backend
        self._channels, self._encodes = int(result.shape[1]), graph.component == "encoder"

    def run(
        self, inputs: Mapping[str, Any], *, call: CallScope, out: Any = None, keep_on_device: bool = False
    ) -> NDArray[np.float32]:
        call.check()
        (array,), ratio = inputs.values(), self._backend.ratio
        self._backend.calls.append(array.shape)
        mean = array.mean(1, keepdims=True)
        if self._encodes:
            batch, _, height, width = mean.shape
            mean = mean.reshape(batch, 1, height // ratio, ratio, width // ratio, ratio).mean((3, 5))
        else:
            mean = mean.repeat(ratio, 2).repeat(ratio, 3)
        result = np.empty((len(mean), self._channels, *mean.shape[2:]), np.float32) if out is None else out
        result[...] = mean
        return result
