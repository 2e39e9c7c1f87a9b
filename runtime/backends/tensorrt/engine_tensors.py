"""The inputs and outputs of a loaded engine: their names and types, and whether they are in host memory."""

from typing import Any

import numpy as np

from ...bundle.ports import NOT_FINITE, PIXELS, is_next_state

__all__ = ["EngineTensors"]


class EngineTensors:
    """The tensors of an engine.

    Attributes:
        outputs: the names of the outputs.
        result: the name of the graph's own first output.
        states: the names of the outputs that are inputs of a stream's next step.
    """

    def __init__(self, engine: Any, library: Any) -> None:
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        out, host = library.TensorIOMode.OUTPUT, library.TensorLocation.HOST
        self.outputs = tuple(name for name in names if engine.get_tensor_mode(name) == out)
        self.result = next(name for name in self.outputs if name not in (PIXELS, NOT_FINITE))
        self.states = frozenset(name for name in self.outputs if is_next_state(name))
        self._host = frozenset(name for name in names if engine.get_tensor_location(name) == host)
        self._dtypes: dict[str, np.dtype[Any]] = {
            name: np.dtype(library.nptype(engine.get_tensor_dtype(name))) for name in names
        }

    @property
    def gives_pixels(self) -> bool:
        """Whether the engine converts its result to uint8 too."""
        return PIXELS in self.outputs

    @property
    def counts_nonfinite(self) -> bool:
        """Whether the engine counts NaN and infinity in its result."""
        return NOT_FINITE in self.outputs

    def is_on_host(self, name: str) -> bool:
        """Whether the library reads the tensor in host memory, because it decides sizes."""
        return name in self._host

    def dtype(self, name: str) -> np.dtype[Any]:
        """The type of a tensor's values."""
        return self._dtypes[name]
