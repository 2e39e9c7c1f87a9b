"""CUDA graphs: a call of one size, with the same buffers, is recorded once and then launched as a whole."""

import logging
from collections.abc import Callable, Hashable
from typing import Any

from ...errors import EngineError

__all__ = ["CapturedCall"]

_log = logging.getLogger(__name__)
_MOST_KEPT = 4  # graphs: the address of a workspace is part of a call, and contexts take turns with workspaces


class CapturedCall:
    """The last calls of an engine context, by a key of everything in them (sizes and addresses).

    The first call of a key runs as it is, because a library allocates memory and chooses kernels in it. The second call
    is recorded, and later calls are launched from the record. If CUDA cannot record a call (a loop, for instance),
    calls run as they are from then on."""

    def __init__(self, gpu: Any) -> None:
        self._gpu = gpu
        self._graphs: dict[Hashable, Any] = {}  # the latest last. None: the call was seen once
        self._records = True

    def run(self, key: Hashable, enqueue: Callable[[], None], stream: Any) -> None:
        """Put the call into the stream: by `enqueue`, or from its record if there is one.

        Raises:
            EngineError: CUDA refuses the call.
        """
        seen = key in self._graphs
        graph = self._graphs.pop(key, None)
        if seen and graph is None and self._records:
            graph = self._recorded(enqueue, stream)
        self._graphs[key] = graph
        for oldest in list(self._graphs)[:-_MOST_KEPT]:
            del self._graphs[oldest]
        if graph is None:
            enqueue()
        else:
            graph.launch(stream)

    def _recorded(self, enqueue: Callable[[], None], stream: Any) -> Any:
        try:
            return self._gpu.record_graph(enqueue, stream)
        except EngineError as error:
            self._records = False
            _log.info("calls run one kernel after the other: %s", error)
            return None
