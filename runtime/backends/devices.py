"""The GPU, through cuda-core and cuda-bindings: memory, streams and copies, with errors of ours.

Imported by nothing at start-up: both packages are looked for when a GPU is first needed.
"""

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendUnavailable, DeviceMemoryError, EngineError, InputError
from ..extras import require

__all__ = ["Gpu", "compute_capability", "has_nvidia_driver", "translated"]

_EXTRA = "tensorrt-rtx"


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
    core = require("cuda.core", extra=_EXTRA)
    try:
        major, minor = core.Device(device).compute_capability
    except Exception as error:  # cuda-core raises the driver's own errors, and RuntimeError without a driver
        raise BackendUnavailable(f"no NVIDIA GPU answers on this machine ({_first_line(error)})") from error
    return f"{major}.{minor}"


class Gpu:
    """One GPU. Every thread that uses it calls `make_current` first.

    Raises:
        MissingExtra: cuda-core or cuda-bindings is not installed. BackendUnavailable: no GPU answers.
    """

    def __init__(self, index: int = 0) -> None:
        self._core = require("cuda.core", extra=_EXTRA)
        self._runtime = require("cuda.bindings.runtime", extra=_EXTRA)
        self.capability = compute_capability(index)
        self._device = self._core.Device(index)
        self.make_current()
        # A pool of our own: it goes back to the system with its last buffer, where the default pool would keep it.
        self._pool = self._core.DeviceMemoryResource(index, options=self._core.DeviceMemoryResourceOptions())
        self._pinned: Any = None

    def make_current(self) -> None:
        """CUDA's current device is a thread's own."""
        self._device.set_current()

    def new_stream(self) -> Any:
        """A stream of our own: on the default one the library synchronises with everything else."""
        return self._device.create_stream()

    def allocate(self, size: int, stream: Any, what: str) -> Any:
        """`size` bytes on the device; freed with the last reference.

        Raises:
            DeviceMemoryError: there is no room; `what` names what they were for.
        """
        try:
            return self._pool.allocate(max(size, 1), stream=stream)
        except Exception as error:  # cuda-core's CUDAError, and MemoryError
            free, total = self.free_bytes()
            raise DeviceMemoryError(
                f"the GPU has no room for {_mib(size)} of {what}: {_mib(free)} of its {_mib(total)} are free; "
                f"decode in smaller tiles, or release other models ({_first_line(error)})"
            ) from error

    def pinned(self, size: int) -> tuple[Any, NDArray[np.uint8]]:
        """`size` bytes of page-locked host memory: the buffer that owns them, and an array over them."""
        if self._pinned is None:
            self._pinned = self._core.LegacyPinnedMemoryResource()
        buffer = self._pinned.allocate(max(size, 1))
        array = (ctypes.c_uint8 * max(size, 1)).from_address(int(buffer.handle))
        return buffer, np.ctypeslib.as_array(array)

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

    def synchronise(self, stream: Any) -> None:
        """Wait until everything on the stream is done.

        Raises:
            EngineError: something on it failed.
        """
        translated(stream.sync, "the GPU failed while running")

    def view_input(self, array: Any, stream: Any, what: str) -> tuple[Any, int, tuple[int, ...]]:
        """A device array (anything with `__dlpack__`) as (what keeps it alive, its address, its shape), ready to be
        read on `stream`.

        Raises:
            InputError: it is not float32 and contiguous.
        """
        view = self._core.utils.StridedMemoryView.from_dlpack(array, stream_ptr=int(stream.handle))
        if view.dtype != np.float32 or not _is_contiguous(view.shape, view.strides):
            raise InputError(f"{what}: a device array must be float32 and C-contiguous, got {view.dtype}")
        return view, int(view.ptr), tuple(view.shape)

    def as_array(self, buffer: Any, shape: tuple[int, ...]) -> Any:
        """A device buffer as a float32 array with `__dlpack__`, which owns it."""
        return self._core.utils.StridedMemoryView.from_buffer(buffer, shape, dtype=np.dtype(np.float32))


def translated(function: Callable[[], Any], what: str) -> Any:
    """Call, with a foreign exception turned into an `EngineError`."""
    try:
        return function()
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(f"{what}: {_first_line(error)}") from error


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> bool:
    """Strides count elements; None is contiguous."""
    step = 1
    for size, stride in zip(reversed(shape), reversed(strides or ()), strict=False):
        if size != 1 and stride != step:
            return False
        step *= size
    return True


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
