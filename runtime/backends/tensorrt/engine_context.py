"""What one engine call at a time uses: an execution context, a stream, and buffers for its inputs and outputs."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import EngineError
from ...system.forked_process import finalize_in_own_process, keep_in_forked_child
from ..cuda.captured import CapturedCall
from ..cuda.device_array import DeviceArray
from ..cuda.device_frames import DeviceFrames
from ..cuda.devices import translated, wait_before_freeing
from .engine_tensors import EngineTensors

__all__ = ["EngineContext"]

Shape = tuple[int, ...]


class EngineContext:
    """Calls of one engine, one after the other. With two contexts the copies of one call run during the computation of
    the other: each has a stream and page-locked memory of its own, and they take turns with the workspace.

    `take` brings the inputs, `compute` runs, and `give` brings the outputs. All three only put work into the stream.
    `end` marks the point that the next call waits for.
    """

    def __init__(self, context: Any, tensors: EngineTensors, gpu: Any, file: str, log: Any) -> None:
        if context is None:
            raise EngineError(f"the library makes no execution context for {file}: {log.last_error}")
        self.context, self.gpu = context, gpu
        self.stream = gpu.new_stream()
        self._tensors, self._file, self._log = tensors, file, log
        self._profile = -1
        self._device: dict[str, Any] = {}
        self._pinned: dict[str, tuple[Any, NDArray[np.uint8]]] = {}
        self._kept: list[Any] = []  # what the call reads, kept until the next call
        self._addresses: dict[str, int] = {}
        self._captured = CapturedCall(gpu)
        self._done: Any = None
        # A call whose result was not waited for may still run, in this context and these buffers.
        finalize_in_own_process(self, wait_before_freeing, gpu, self.stream.sync)
        keep_in_forked_child(self)

    def take(self, profile: int, inputs: Mapping[str, Any]) -> None:
        """Bring the inputs to the device. Inputs that are there already are read in place."""
        if self._done is not None:
            # The last call reads the buffers until then, if its result was not waited for.
            translated(self._done.sync, "the GPU failed in the call before")
        self._kept = []
        if self._profile != profile:
            self.need(
                self.context.set_optimization_profile_async(profile, int(self.stream.handle)), f"profile {profile}"
            )
            self._profile = profile
        for name, array in inputs.items():
            self.need(self.context.set_input_shape(name, tuple(array.shape)), f"{name} of shape {tuple(array.shape)}")
            self._set(name, self._brought(name, array))
        missing = self.context.infer_shapes()
        if missing:
            raise EngineError(f"{self._file} does not know its sizes without {', '.join(missing)}")

    def shape(self, name: str) -> Shape:
        """The shape of an output, once the inputs are there."""
        return tuple(self.context.get_tensor_shape(name))

    def place(self, name: str, *, handed_out: bool) -> Any:
        """The memory of an output on the device: its own if it is handed out, otherwise a buffer of this context."""
        size = self._tensors.dtype(name).itemsize * math.prod(self.shape(name))
        buffer = self.gpu.allocate(size, self.stream, name) if handed_out else self._buffer(name, size)
        self._set(name, int(buffer.handle))
        return buffer

    def compute(self, scratch: Any, *, captured: bool) -> None:
        """Run, with `scratch` for the activations."""
        self.context.set_device_memory(int(scratch.handle), scratch.size)

        def enqueue() -> None:
            self.need(self.context.execute_async_v3(int(self.stream.handle)), "the call")

        if captured:
            shapes = tuple(self.shape(name) for name in self._addresses)
            key = (self._profile, shapes, tuple(self._addresses.items()), int(scratch.handle))
            self._captured.run(key, enqueue, self.stream)
        else:
            enqueue()

    def give(self, name: str, buffer: Any) -> NDArray[Any]:
        """Bring an output to the host: an array of this context, whose values are there once the stream has finished,
        until the next call."""
        shape, dtype = self.shape(name), self._tensors.dtype(name)
        size = dtype.itemsize * math.prod(shape)
        host, pinned = self._pinned_memory(name, size)
        self.gpu.copy(int(host.handle), int(buffer.handle), size, self.stream)
        return pinned[:size].view(dtype).reshape(shape)

    def end(self) -> Any:
        """The event after all work that was put into the stream."""
        self._done = translated(self.stream.record, "CUDA marks no end of the call")
        return self._done

    def bytes_needed(self, profile: int, shapes: Mapping[str, Shape]) -> tuple[int, int]:
        """The device memory of a call with inputs of those shapes, in bytes: activations, and inputs with outputs."""
        self.need(self.context.set_optimization_profile_async(profile, int(self.stream.handle)), f"profile {profile}")
        self._profile = profile
        for name, shape in shapes.items():
            self.need(self.context.set_input_shape(name, shape), f"{name} of shape {shape}")
        tensors = [*shapes, *self._tensors.outputs]
        sizes = (self._tensors.dtype(name).itemsize * math.prod(self.shape(name)) for name in tensors)
        return int(self.context.update_device_memory_size_for_shapes()), sum(sizes)

    def need(self, accepted: Any, what: str) -> None:
        """Check that the library accepted an argument.

        Raises:
            EngineError: it did not. The message holds the library's own words.
        """
        if accepted is False:
            raise EngineError(f"{self._file} does not take {what}: {self._log.last_error}")

    def _brought(self, name: str, array: Any) -> int:
        """The address of an input."""
        if isinstance(array, DeviceArray | DeviceFrames):
            self._kept.append(array)
            array.let_wait(self.stream)  # another context may still be computing it
            if isinstance(array, DeviceArray):
                return array.address
            return array.whole.address if array.whole is not None else self._gathered(name, array)
        if not isinstance(array, np.ndarray):
            view, address, shape = self.gpu.view_input(array, self.stream, name)
            self._kept.append(view)
            if view.dtype == np.float32:
                return int(address)
            array = self._fetched(name, address, shape, view.dtype)
        values = np.ascontiguousarray(array, self._tensors.dtype(name))
        if self._tensors.is_on_host(name):  # it decides sizes, which the library reads before anything runs
            self._kept.append(values)
            return int(values.ctypes.data)
        target = self._buffer(name, values.nbytes)
        host, pinned = self._pinned_memory(name, values.nbytes)
        pinned[: values.nbytes] = values.reshape(-1).view(np.uint8)
        self.gpu.copy(int(target.handle), int(host.handle), values.nbytes, self.stream)
        return int(target.handle)

    def _fetched(self, name: str, address: int, shape: Shape, dtype: Any) -> NDArray[Any]:
        """A device array on the host, where it is widened: float16 latents of a pipeline, which are small."""
        values = np.empty(shape, dtype)
        host, pinned = self._pinned_memory(name, values.nbytes)
        self.gpu.copy(int(host.handle), address, values.nbytes, self.stream)
        self.gpu.synchronise(self.stream)
        values[...] = pinned[: values.nbytes].view(dtype).reshape(shape)
        return values

    def _gathered(self, name: str, frames: DeviceFrames) -> int:
        """The address of frames that are copied one after the other on the device."""
        rows = list(frames.rows())
        pitch = sum(part.width for part in rows)
        target = self._buffer(name, pitch * rows[0].count)
        for part in rows:
            self.gpu.copy_rows(int(target.handle) + part.offset, pitch, part, self.stream)
        return int(target.handle)

    def _set(self, name: str, address: int) -> None:
        self._addresses[name] = address
        self.need(self.context.set_tensor_address(name, address), f"the address of {name}")

    def _buffer(self, name: str, size: int) -> Any:
        if name not in self._device or self._device[name].size < size:
            self._device.pop(name, None)
            self._device[name] = self.gpu.allocate(size, self.stream, name)
        return self._device[name]

    def _pinned_memory(self, name: str, size: int) -> tuple[Any, NDArray[np.uint8]]:
        if name not in self._pinned or self._pinned[name][1].size < size:
            self._pinned.pop(name, None)
            self._pinned[name] = self.gpu.pinned(size)
        return self._pinned[name]
