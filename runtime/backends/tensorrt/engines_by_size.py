"""Several engines of one graph: each call runs in the one that was built closest to its sizes."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...bundle.engine_records import EngineRecord
from ...bundle.ports import NOT_FINITE, PIXELS
from ...bundle.profiles import choose_profile, sizes_of
from ...errors import DeviceMemoryError
from ..component import ComponentCapabilities
from .component import TensorRTComponent

__all__ = ["EnginesBySize"]


class EnginesBySize:
    """The engines of `records`, all of one graph, the newest first, as one component.

    The sizes of a call alone decide which engine it runs in (`choose_profile`). An engine is loaded when a call first
    needs it. If the GPU has no memory for it, the other engines are freed first.
    """

    def __init__(self, records: Sequence[EngineRecord], load: Callable[[EngineRecord], TensorRTComponent]) -> None:
        self._load = load
        self._built = [(profile, record) for record in records for profile in record.profiles]
        self._kind = records[0].kind
        self._lock = threading.Lock()
        self._open: dict[str, TensorRTComponent] = {}
        added = [record.settings.get("adds", ()) for record in records]
        self.capabilities = ComponentCapabilities(
            steps=True,
            pixels=all(PIXELS in one for one in added),
            counts_nonfinite=all(NOT_FINITE in one for one in added),
            keeps_results=True,
        )

    def run(self, inputs: Mapping[str, Any], **options: Any) -> Any:
        """As `TensorRTComponent.run`."""
        return self._engine(inputs).run(inputs, **options)

    def step(self, inputs: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """As `TensorRTComponent.step`; the next step may run in another engine."""
        return self._engine(inputs).step(inputs, **options)

    def _engine(self, inputs: Mapping[str, Any]) -> TensorRTComponent:
        index = choose_profile([profile for profile, _ in self._built], sizes_of(inputs), self._kind)
        record = self._built[index][1]
        with self._lock:
            if record.file not in self._open:
                self._open[record.file] = self._loaded(record)
            return self._open[record.file]

    def _loaded(self, record: EngineRecord) -> TensorRTComponent:
        try:
            return self._load(record)
        except DeviceMemoryError:
            if not self._open:
                raise
        self._open.clear()  # outside of the handler: the error would hold what its frames do
        return self._load(record)
