"""The inputs and outputs of a loaded engine: names, types, and where they lie."""

from typing import Any

import numpy as np

from ...bundle.added_outputs import NOT_FINITE, PIXELS

__all__ = ["EngineTensors"]


class EngineTensors:
    """What an engine says of its tensors. `result` is the graph's own first output; `states` those that go into the
    next step of a stream."""

    def __init__(self, engine: Any, library: Any) -> None:
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        out, host = library.TensorIOMode.OUTPUT, library.TensorLocation.HOST
        self.outputs = tuple(name for name in names if engine.get_tensor_mode(name) == out)
        self.result = next(name for name in self.outputs if name not in (PIXELS, NOT_FINITE))
        self.states = frozenset(name for name in self.outputs if name.startswith("next_"))
        self._host = frozenset(name for name in names if engine.get_tensor_location(name) == host)
        self._dtypes: dict[str, np.dtype[Any]] = {
            name: np.dtype(library.nptype(engine.get_tensor_dtype(name))) for name in names
        }

    @property
    def gives_pixels(self) -> bool:
        return PIXELS in self.outputs

    @property
    def counts_nonfinite(self) -> bool:
        return NOT_FINITE in self.outputs

    def is_on_host(self, name: str) -> bool:
        """Whether the library reads it in host memory: it decides sizes."""
        return name in self._host

    def dtype(self, name: str) -> np.dtype[Any]:
        return self._dtypes[name]
