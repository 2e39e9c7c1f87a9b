"""Values that stay on the GPU: results of `output="device"`, and the states of a stream between its steps."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DeviceArray"]


class DeviceArray:
    """A C-contiguous array in device memory, which it owns. `__dlpack__` hands it to any library, and `numpy()` copies
    it. Its values are there once the event `ready` has happened."""

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
        """Free the memory in the order of the stream that its new owner works in (None: the default stream)."""
        self._gpu.hand_over(self._buffer, pointer)

    def let_wait(self, stream: Any) -> None:
        """Let the stream wait for the values: work that is put into it from now on finds them."""
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
        """As the array API defines it. `stream` is the consumer's: it waits for the values, and the memory is freed in
        its order. None: the default stream. -1: no stream waits."""
        if stream != -1:
            with self._gpu.current():
                self.let_wait(self._gpu.stream_of(stream or 0))
                self.hand_over(stream)
        return self._gpu.as_array(self._buffer, self.shape, self.dtype).__dlpack__(stream=-1, **options)

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self._gpu.as_array(self._buffer, self.shape, self.dtype).__dlpack_device__()
        return device
