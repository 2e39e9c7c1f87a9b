"""The GPU, through cuda-core and cuda-bindings: memory, streams and copies, with errors of ours.

Imported by nothing at start-up: both packages are looked for when a GPU is first needed.
"""

import ctypes
import math
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BackendUnavailable, DeviceMemoryError, EngineError, InputError
from ...extras import require
from .device_frames import Rows
from .device_memory import MemoryLedger, mib

__all__ = ["Buffer", "Gpu", "compute_capability", "gpu_name", "has_nvidia_driver", "settled", "translated"]

_EXTRA = "tensorrt-rtx"
_NO_ROOM = ("CUDA_ERROR_OUT_OF_MEMORY", "cudaErrorMemoryAllocation", "Failed to allocate memory from pool")


def has_nvidia_driver() -> bool:
    """Whether the CUDA driver's library is here and starts: it does without a CUDA toolkit, and fails without a GPU."""
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
    """Device memory, counted in a ledger for as long as this lives."""

    def __init__(self, memory: Any, size: int, ledger: MemoryLedger) -> None:
        self.memory, self.size = memory, size
        self.handle = int(memory.handle)
        weakref.finalize(self, ledger.give_back, size)


class RecordedGraph:
    """Work of a stream, recorded once."""

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
        weakref.finalize(self, runtime.cudaGraphExecDestroy, self._graph).atexit = False  # the driver may be gone

    def launch(self, stream: Any) -> None:
        """Put the work into the stream."""
        self._done(self._runtime.cudaGraphLaunch(self._graph, int(stream.handle)))

    @staticmethod
    def _done(result: tuple[Any, ...]) -> Any:
        if int(result[0]) != 0:
            raise EngineError(f"CUDA records no graph: {result[0].name}")
        return result[-1]


class Gpu:
    """One GPU, by its number, of whose memory at most `ledger` allows is taken. Whoever uses it does so within
    `current`.

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
            # A pool of our own: it goes back to the system with its last buffer, where the default pool would keep it.
            self._pool = self._core.DeviceMemoryResource(index, options=self._core.DeviceMemoryResourceOptions())
        self._pinned: Any = None

    @contextmanager
    def current(self) -> Iterator[None]:
        """This GPU is the thread's current device within it, and then again the one that was: other libraries of the
        caller's go by it."""
        _, before = self._runtime.cudaGetDevice()
        self._device.set_current()
        try:
            yield
        finally:
            if before is not None and int(before) != self.index:
                self._runtime.cudaSetDevice(int(before))

    def new_stream(self) -> Any:
        """A stream of our own: on the default one the library synchronises with everything else."""
        return self._device.create_stream()

    def stream_of(self, pointer: int) -> Any:
        """A stream of the caller's, by its pointer (0 and 1: the default stream, 2: the thread's own default one, as
        CUDA and DLPack have it)."""
        special = {
            0: self._core.LEGACY_DEFAULT_STREAM,
            1: self._core.LEGACY_DEFAULT_STREAM,
            2: self._core.PER_THREAD_DEFAULT_STREAM,
        }
        return special[pointer] if pointer in special else self._core.Stream.from_handle(pointer)

    def allocate(self, size: int, stream: Any, what: str) -> Buffer:
        """`size` bytes on the device; freed with the last reference.

        Raises:
            DeviceMemoryError: there is no room; `what` names what they were for. EngineError: CUDA fails otherwise, as
                it does with everything after a call that went wrong.
        """
        size = max(size, 1)
        self.ledger.take(size, what)
        try:
            return Buffer(self._pool.allocate(size, stream=stream), size, self.ledger)
        except Exception as error:  # cuda-core's CUDAError, and MemoryError
            self.ledger.give_back(size)
            if not _is_lack_of_room(error):
                raise EngineError(f"CUDA gives no {mib(size)} for {what}: {_first_line(error)}") from error
            free, total = self.free_bytes()
            raise DeviceMemoryError(
                f"the GPU has no room for {mib(size)} of {what}: {mib(free)} of its {mib(total)} are free; "
                f"decode in smaller tiles, or release other models ({_first_line(error)})"
            ) from error

    def hand_over(self, buffer: Buffer, pointer: int | None) -> None:
        """Let the buffer's memory be freed in the order of the stream that its new owner works in (None: the default
        stream), not of the one that it was allocated for."""
        buffer.memory.set_deallocation_stream(self.stream_of(pointer or 0))

    def pinned(self, size: int) -> tuple[Any, NDArray[np.uint8]]:
        """`size` bytes of page-locked host memory: the buffer that owns them, and an array over them."""
        if self._pinned is None:
            self._pinned = self._core.LegacyPinnedMemoryResource()
        buffer = translated(
            lambda: self._pinned.allocate(max(size, 1)), f"the host has no {mib(size)} of page-locked memory"
        )
        array = (ctypes.c_uint8 * max(size, 1)).from_address(int(buffer.handle))
        return buffer, np.ctypeslib.as_array(array)

    @property
    def available(self) -> int:
        """The bytes that can still be had, by the device and by the ledger."""
        free, _ = self.free_bytes()
        left = self.ledger.left
        return free if left is None else min(free, left)

    def free_bytes(self) -> tuple[int, int]:
        """How much memory of the device is free, and how much it has."""
        _, free, total = self._runtime.cudaMemGetInfo()
        return int(free or 0), int(total or 0)

    def copy(self, target: int, source: int, size: int, stream: Any) -> None:
        """Copy between host and device addresses in stream order; the driver sees which is which.

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
        """What `enqueue` puts into the stream, as a CUDA graph; nothing runs yet.

        Raises:
            EngineError: CUDA refuses, or `enqueue` did something that cannot be recorded.
        """
        return RecordedGraph(self._runtime, enqueue, stream)

    def synchronise(self, stream: Any) -> None:
        """Wait until everything on the stream is done.

        Raises:
            EngineError: something on it failed.
        """
        translated(stream.sync, "the GPU failed while running")

    def view_input(self, array: Any, stream: Any, what: str) -> tuple[Any, int, tuple[int, ...]]:
        """A device array (anything with `__dlpack__`) as (what keeps it alive, with its `dtype`, its address, its
        shape), ready to be read on `stream`.

        Raises:
            InputError: it is not float32 or float16, or not contiguous, or lies on another GPU.
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
        """Memory of the caller's (a contiguous device array) as (what keeps it alive, its address, its bytes).

        Raises:
            InputError: it is no contiguous device array, or lies on another GPU.
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
        """A device buffer as an array with `__dlpack__`, which owns its memory."""
        return self._core.utils.StridedMemoryView.from_buffer(buffer.memory, shape, dtype=dtype)


def translated(function: Callable[[], Any], what: str) -> Any:
    """Call, with a foreign exception turned into an `EngineError`."""
    try:
        return function()
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(f"{what}: {_first_line(error)}") from error


def settled(gpu: Any, wait: Callable[[], object]) -> None:
    """Before memory is let go: `wait` for what the GPU still does in it. What failed there is told to whoever asks for
    the result."""
    with suppress(Exception), gpu.current():
        wait()


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> bool:
    """Strides count elements; None is contiguous."""
    step = 1
    for size, stride in zip(reversed(shape), reversed(strides or ()), strict=False):
        if size != 1 and stride != step:
            return False
        step *= size
    return True


def _is_lack_of_room(error: Exception) -> bool:
    """cuda-core has one class for all of CUDA's errors, with CUDA's name of each in its text."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _NO_ROOM)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
