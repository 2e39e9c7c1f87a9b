"""Values that stay on the GPU: results that were asked for there, and the states of a stream between its steps."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DeviceArray"]


class DeviceArray:
    """A C-contiguous array in device memory that it owns; `__dlpack__` hands it to any library, `numpy()` copies it.
    Its values are there when the event `ready` is."""

    def __init__(self, gpu: Any, buffer: Any, shape: tuple[int, ...], dtype: np.dtype[Any], ready: Any) -> None:
        self.shape = shape
        self.dtype = dtype
        self._gpu = gpu
        self._buffer = buffer
        self._ready = ready

    @property
    def address(self) -> int:
        return int(self._buffer.handle)

    def hand_over(self, pointer: int | None) -> None:
        """Whoever takes it works in that stream (None: the default one): the memory is freed in its order."""
        self._gpu.hand_over(self._buffer, pointer)

    def numpy(self) -> NDArray[Any]:
        """The values on the host, in a new array."""
        values = np.empty(self.shape, self.dtype)
        self._gpu.make_current()
        stream = self._gpu.new_stream()
        stream.wait(self._ready)
        self._gpu.copy(values.ctypes.data, self.address, values.nbytes, stream)
        self._gpu.synchronise(stream)
        return values

    def __dlpack__(self, **options: Any) -> Any:
        return self._gpu.as_array(self._buffer, self.shape, self.dtype).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self._gpu.as_array(self._buffer, self.shape, self.dtype).__dlpack_device__()
        return device
