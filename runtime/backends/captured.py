"""CUDA graphs: a call of one size, with the same buffers, is recorded once and then launched as a whole."""

from collections.abc import Callable, Hashable
from typing import Any

__all__ = ["CapturedCall"]


class CapturedCall:
    """The last call of a lane, by a key of everything in it (sizes and addresses). The second call with the same key is
    recorded (a library allocates and chooses in the first one) and those after it are launched."""

    def __init__(self, gpu: Any) -> None:
        self._gpu = gpu
        self._key: Hashable = None
        self._graph: Any = None

    def run(self, key: Hashable, enqueue: Callable[[], None], stream: Any) -> None:
        """Put the call into the stream: `enqueue` does so, and where it was recorded before, the record.

        Raises:
            EngineError: CUDA refuses.
        """
        if key != self._key:
            self._key, self._graph = key, None
            enqueue()
            return
        if self._graph is None:
            self._graph = self._gpu.record_graph(enqueue, stream)
        self._graph.launch(stream)
