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

    def let_wait(self, stream: Any) -> None:
        """What is put into that stream from now on finds the values."""
        stream.wait(self._ready)

    def numpy(self) -> NDArray[Any]:
        """The values on the host, in a new array."""
        values = np.empty(self.shape, self.dtype)
        with self._gpu.current():
            stream = self._gpu.new_stream()
            self.let_wait(stream)
            self._gpu.copy(values.ctypes.data, self.address, values.nbytes, stream)
            self._gpu.synchronise(stream)
        return values

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Any:
        """As the array API has it: `stream` is the consumer's, which waits for the values (None: the default one; -1:
        none does), and in whose order the memory is freed."""
        if stream != -1:
            with self._gpu.current():
                self.let_wait(self._gpu.stream_of(stream or 0))
                self.hand_over(stream)
        return self._gpu.as_array(self._buffer, self.shape, self.dtype).__dlpack__(stream=-1, **options)

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self._gpu.as_array(self._buffer, self.shape, self.dtype).__dlpack_device__()
        return device
