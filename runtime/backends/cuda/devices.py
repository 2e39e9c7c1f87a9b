"""The GPU, through cuda-core and cuda-bindings: memory, streams and copies, with LatentRT's errors.

Both packages are imported when a GPU is first needed.
"""

import ctypes
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BackendUnavailable, DeviceMemoryError, EngineError, InputError
from ...extras import require
from ...system.forked_process import finalize_in_own_process, keep_in_forked_child
from .device_frames import Rows
from .device_memory import MemoryLedger, mib

__all__ = ["Buffer", "Gpu", "compute_capability", "gpu_name", "has_nvidia_driver", "translated", "wait_before_freeing"]

_EXTRA = "tensorrt-rtx"
_OUT_OF_MEMORY = ("CUDA_ERROR_OUT_OF_MEMORY", "cudaErrorMemoryAllocation", "Failed to allocate memory from pool")


def has_nvidia_driver() -> bool:
    """Whether the CUDA driver's library is here and starts. It needs no CUDA toolkit, and fails without a GPU."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return int(ctypes.CDLL(name).cuInit(0)) == 0
    except (OSError, AttributeError):
        return False


def compute_capability(device: int = 0) -> str:
    """A GPU's compute capability, such as "8.9".

    Raises:
        MissingExtra: cuda-core is not installed. BackendUnavailable: no driver or no GPU answers.
    """
    major, minor = _device(device).compute_capability
    return f"{major}.{minor}"


def gpu_name(device: int = 0) -> str:
    """A GPU's name, such as "NVIDIA H200".

    Raises:
        MissingExtra: cuda-core is not installed. BackendUnavailable: no driver or no GPU answers.
    """
    return str(_device(device).name)


def _device(index: int) -> Any:
    core = require("cuda.core", extra=_EXTRA)
    try:
        device = core.Device(index)
        device.compute_capability  # noqa: B018 # a Device is made without one, too
    except Exception as error:  # cuda-core raises the driver's own errors, and RuntimeError without a driver
        raise BackendUnavailable(f"no NVIDIA GPU {index} answers on this machine ({_first_line(error)})") from error
    return device


class Buffer:
    """Device memory, counted in a ledger until it is freed."""

    def __init__(self, memory: Any, size: int, ledger: MemoryLedger) -> None:
        self.memory, self.size = memory, size
        self.handle = int(memory.handle)
        finalize_in_own_process(self, ledger.give_back, size)
        keep_in_forked_child(self)


class RecordedGraph:
    """Work of a stream that was recorded once, as a CUDA graph."""

    def __init__(self, runtime: Any, enqueue: Callable[[], None], stream: Any) -> None:
        self._runtime = runtime
        handle = int(stream.handle)
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._done(runtime.cudaStreamBeginCapture(handle, mode))
        try:
            enqueue()
        finally:
            code, graph = runtime.cudaStreamEndCapture(handle)
        self._done((code,))
        self._graph = self._done(runtime.cudaGraphInstantiate(graph, 0))
        runtime.cudaGraphDestroy(graph)
        ending = finalize_in_own_process(self, runtime.cudaGraphExecDestroy, self._graph)
        ending.atexit = False  # the driver may be gone

    def launch(self, stream: Any) -> None:
        """Put the work into the stream."""
        self._done(self._runtime.cudaGraphLaunch(self._graph, int(stream.handle)))

    @staticmethod
    def _done(result: tuple[Any, ...]) -> Any:
        if int(result[0]) != 0:
            raise EngineError(f"CUDA records no graph: {result[0].name}")
        return result[-1]


class Gpu:
    """One GPU. Callers use it within `current`.

    Args:
        index: the number of the GPU.
        ledger: counts its memory, and limits it.

    Raises:
        MissingExtra: cuda-core or cuda-bindings is not installed. BackendUnavailable: no GPU answers.
    """

    def __init__(self, index: int = 0, ledger: MemoryLedger | None = None) -> None:
        self.index = index
        self.ledger = ledger or MemoryLedger()
        self._core = require("cuda.core", extra=_EXTRA)
        self._runtime = require("cuda.bindings.runtime", extra=_EXTRA)
        self._device = _device(index)
        with self.current():
            # A pool of our own gives its memory back to the system with its last buffer. The default pool would keep
            # it.
            self._pool = self._core.DeviceMemoryResource(index, options=self._core.DeviceMemoryResourceOptions())
        self._pinned: Any = None
        keep_in_forked_child(self)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make this GPU the thread's current device within the context, and set the former device again at its end.
        Other libraries of the caller depend on the current device."""
        _, before = self._runtime.cudaGetDevice()
        self._device.set_current()
        try:
            yield
        finally:
            if before is not None and int(before) != self.index:
                self._runtime.cudaSetDevice(int(before))

    def new_stream(self) -> Any:
        """A new stream. (On the default stream the library synchronises with all other work.)"""
        return self._device.create_stream()

    def stream_of(self, pointer: int) -> Any:
        """A stream of the caller's, by its pointer. As CUDA and DLPack define it, 0 and 1 are the default stream, and 2
        is the thread's own default stream."""
        special = {
            0: self._core.LEGACY_DEFAULT_STREAM,
            1: self._core.LEGACY_DEFAULT_STREAM,
            2: self._core.PER_THREAD_DEFAULT_STREAM,
        }
        return special[pointer] if pointer in special else self._core.Stream.from_handle(pointer)

    def allocate(self, size: int, stream: Any, what: str) -> Buffer:
        """`size` bytes on the device, freed with the last reference. `what` names their purpose in messages.

        Raises:
            DeviceMemoryError: the GPU has too little memory. EngineError: CUDA fails otherwise, as it does with all
            work
                after a call that went wrong.
        """
        size = max(size, 1)
        self.ledger.take(size, what)
        try:
            return Buffer(self._pool.allocate(size, stream=stream), size, self.ledger)
        except Exception as error:  # cuda-core's CUDAError, and MemoryError
            self.ledger.give_back(size)
            if not _is_out_of_memory(error):
                raise EngineError(f"CUDA gives no {mib(size)} for {what}: {_first_line(error)}") from error
            free, total = self.free_bytes()
            raise DeviceMemoryError(
                f"the GPU has no memory for {mib(size)} of {what}: {mib(free)} of its {mib(total)} are free; "
                f"decode in smaller tiles, or release other models ({_first_line(error)})"
            ) from error

    def hand_over(self, buffer: Buffer, pointer: int | None) -> None:
        """Free the buffer's memory in the order of the stream that its new owner works in (None: the default stream),
        not of the stream that it was allocated for."""
        buffer.memory.set_deallocation_stream(self.stream_of(pointer or 0))

    def pinned(self, size: int) -> tuple[Any, NDArray[np.uint8]]:
        """`size` bytes of page-locked host memory: the buffer that owns them, and an array over the buffer."""
        if self._pinned is None:
            self._pinned = self._core.LegacyPinnedMemoryResource()
        buffer = translated(
            lambda: self._pinned.allocate(max(size, 1)), f"the host has no {mib(size)} of page-locked memory"
        )
        array = (ctypes.c_uint8 * max(size, 1)).from_address(int(buffer.handle))
        return buffer, np.ctypeslib.as_array(array)

    @property
    def available(self) -> int:
        """The bytes that can still be taken, by the device and by the ledger."""
        free, _ = self.free_bytes()
        left = self.ledger.left
        return free if left is None else min(free, left)

    def free_bytes(self) -> tuple[int, int]:
        """The free memory of the device, and all its memory, in bytes."""
        _, free, total = self._runtime.cudaMemGetInfo()
        return int(free or 0), int(total or 0)

    def copy(self, target: int, source: int, size: int, stream: Any) -> None:
        """Copy between host and device addresses in stream order. The driver finds out which address is on which.

        Raises:
            EngineError: CUDA refuses.
        """
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDefault
        (code,) = self._runtime.cudaMemcpyAsync(target, source, size, kind, int(stream.handle))
        if int(code) != 0:
            raise EngineError(f"CUDA does not copy {size} bytes: {code.name}")

    def copy_rows(self, target: int, pitch: int, rows: Rows, stream: Any) -> None:
        """Copy rows within the device, in stream order, so that they lie `pitch` bytes apart from `target` on.

        Raises:
            EngineError: CUDA refuses.
        """
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        place = (target, pitch, rows.source, rows.pitch, rows.width, rows.count)
        (code,) = self._runtime.cudaMemcpy2DAsync(*place, kind, int(stream.handle))
        if int(code) != 0:
            raise EngineError(f"CUDA does not copy {rows.count} rows of {rows.width} bytes: {code.name}")

    def record_graph(self, enqueue: Callable[[], None], stream: Any) -> "RecordedGraph":
        """The work that `enqueue` puts into the stream, as a CUDA graph. Nothing runs yet.

        Raises:
            EngineError: CUDA refuses, or `enqueue` did something that cannot be recorded.
        """
        return RecordedGraph(self._runtime, enqueue, stream)

    def synchronise(self, stream: Any) -> None:
        """Wait until all work on the stream is done.

        Raises:
            EngineError: the work failed.
        """
        translated(stream.sync, "the GPU failed while running")

    def view_input(self, array: Any, stream: Any, what: str) -> tuple[Any, int, tuple[int, ...]]:
        """A device array (any object with `__dlpack__`), ready to be read on `stream`.

        Returns:
            An object with the array's `dtype` that keeps it alive, its address, and its shape.

        Raises:
            InputError: the array is not float32 or float16, or not contiguous, or on another GPU.
        """
        try:
            view = self._core.utils.StridedMemoryView.from_dlpack(array, stream_ptr=int(stream.handle))
            dtype = view.dtype
        except Exception as error:  # the array's own library refuses: BufferError, RuntimeError; or an unknown dtype
            raise InputError(
                f"{what}: the array cannot be read ({_first_line(error)}): give float32 or float16 without gradients"
            ) from error
        if dtype not in (np.float32, np.float16) or not _is_contiguous(view.shape, view.strides):
            raise InputError(f"{what}: a device array must be float32 or float16 and C-contiguous, got {dtype}")
        if int(view.device_id) != self.index:
            raise InputError(
                f"{what}: the array lies on GPU {view.device_id} and the engine on GPU {self.index}: copy it"
            )
        return view, int(view.ptr), tuple(view.shape)

    def view_memory(self, array: Any) -> tuple[Any, int, int]:
        """Memory of the caller's, a contiguous device array.

        Returns:
            An object that keeps it alive, its address, and its size in bytes.

        Raises:
            InputError: it is no contiguous device array, or is on another GPU.
        """
        try:
            view = self._core.utils.StridedMemoryView.from_any_interface(array, stream_ptr=-1)
            size = math.prod(view.shape) * view.dtype.itemsize
        except Exception as error:  # as in view_input
            raise InputError(
                f"workspace: the array cannot be used ({_first_line(error)}): give bytes on GPU {self.index}"
            ) from error
        if not view.is_device_accessible or not _is_contiguous(view.shape, view.strides):
            raise InputError("workspace: wanted a contiguous array in device memory")
        if int(view.device_id) != self.index:
            raise InputError(
                f"workspace: the array lies on GPU {view.device_id} and the engines on GPU {self.index}: give one there"
            )
        return view, int(view.ptr), size

    def as_array(self, buffer: Buffer, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """An array with `__dlpack__` over a device buffer. It owns the buffer's memory."""
        return self._core.utils.StridedMemoryView.from_buffer(buffer.memory, shape, dtype=dtype)


def translated(function: Callable[[], Any], what: str) -> Any:
    """Call a function, and raise its foreign exceptions as `EngineError`. `what` is the message."""
    try:
        return function()
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(f"{what}: {_first_line(error)}") from error


def wait_before_freeing(gpu: Any, wait: Callable[[], object]) -> None:
    """Call `wait`, so that the GPU has finished its work in memory that is freed next. Errors are suppressed: the call
    that asks for the result raises them."""
    with suppress(Exception), gpu.current():
        wait()


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> bool:
    """Strides are in elements. None means contiguous."""
    step = 1
    for size, stride in zip(reversed(shape), reversed(strides or ()), strict=False):
        if size != 1 and stride != step:
            return False
        step *= size
    return True


def _is_out_of_memory(error: Exception) -> bool:
    """cuda-core has one class for all errors of CUDA, with CUDA's name for the error in the text."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
