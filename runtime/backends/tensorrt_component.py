"""One TensorRT engine as a `Component`: buffers, a stream and an execution context per running call.

Not run yet by us: no GPU was there while this was written. It follows the documented interfaces of TensorRT 10 and 11,
TensorRT-RTX 1.7, cuda-core 1 and cuda-bindings 13.
"""

import contextlib
import logging
import math
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cache_folder import cache_folder
from ..component import Call
from ..engines import EngineRecord
from ..errors import DeviceMemoryError, EngineError
from ..profiles import choose_profile
from .devices import Gpu, translated

__all__ = ["SharedDevice", "TensorRTComponent"]

_log = logging.getLogger(__name__)


class SharedDevice:
    """What the engines of one autoencoder share: the GPU, the library's runtime, and scratch memory. Encoder and
    decoder take turns with one workspace; with `contexts=N` there are as many as calls run at a time."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.gpu = Gpu()
        self.logger = _logger_of(library)
        self.runtime = library.Runtime(self.logger)
        self._lock = threading.Lock()
        self._free: list[Any] = []

    @contextmanager
    def workspace(self, size: int, stream: Any) -> Iterator[Any]:
        """A device buffer of at least `size` bytes, the caller's until the body ends.

        Raises:
            DeviceMemoryError: there is no room.
        """
        with self._lock:
            buffer = self._free.pop() if self._free else None
        if buffer is None or buffer.size < size:
            buffer = None  # freed before the larger one is asked for
            buffer = self.gpu.allocate(size, stream, "activations")
        yield buffer
        with self._lock:  # only after success: a failed call may still write to it
            self._free.append(buffer)


class _Slot:
    """What one call at a time uses of an engine: a context, a stream, and the buffers of its inputs and output."""

    def __init__(self, engine: Any, shared: SharedDevice, create: Any) -> None:
        self.context = create(engine)
        if self.context is None:
            raise EngineError("the library makes no execution context: its log (latentrt -v) says why")
        self.stream = shared.gpu.new_stream()
        self.profile = -1
        self.device: dict[str, Any] = {}
        self.pinned: dict[str, tuple[Any, NDArray[np.uint8]]] = {}


class TensorRTComponent:
    """One engine.

    Raises:
        EngineError: the file is not the one that was built (it is looked at before the library sees it), or the
            library does not read it. DeviceMemoryError: its weights do not fit.
    """

    def __init__(self, folder: Path, record: EngineRecord, shared: SharedDevice) -> None:
        record.check_file(folder)
        self._record = record
        self._shared = shared
        self._lock = threading.Lock()
        self._slots: list[_Slot] = []
        shared.gpu.make_current()
        content = (folder / record.file).read_bytes()
        self._engine = shared.runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise EngineError(f"{record.backend} does not read {record.file}: {shared.logger.last_error}")
        if record.settings.get("strip_weights") or record.settings.get("refit"):
            self._refit(folder / record.graph)
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        mode = shared.library.TensorIOMode.OUTPUT
        (self._output,) = (name for name in names if self._engine.get_tensor_mode(name) == mode)
        self._jit = _JitCache(self._engine, record) if record.backend == "tensorrt-rtx" else None

    def run(
        self,
        inputs: Mapping[str, Any],
        *,
        call: Call,
        out: NDArray[Any] | None = None,
        keep_on_device: bool = False,
    ) -> Any:
        shapes = {name: tuple(array.shape) for name, array in inputs.items()}
        profile = choose_profile(self._record.profiles, shapes)
        call.check()
        self._shared.gpu.make_current()
        with self._slot() as slot:
            try:
                return self._run(slot, profile, inputs, shapes, out, keep_on_device)
            except DeviceMemoryError as error:
                given = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
                raise DeviceMemoryError(f"{self._record.file}, {given}: {error}") from error

    def _run(
        self,
        slot: _Slot,
        profile: int,
        inputs: Mapping[str, Any],
        shapes: Mapping[str, tuple[int, ...]],
        out: NDArray[Any] | None,
        keep_on_device: bool,
    ) -> Any:
        context, stream, gpu = slot.context, slot.stream, self._shared.gpu
        if slot.profile != profile:
            self._need(context.set_optimization_profile_async(profile, int(stream.handle)), f"profile {profile}")
            slot.profile = profile
        kept = []  # device inputs stay alive until the stream is done
        for name, array in inputs.items():
            self._need(context.set_input_shape(name, shapes[name]), f"{name} of shape {shapes[name]}")
            if isinstance(array, np.ndarray):
                address = self._upload(slot, name, array)
            else:
                view, address, _ = gpu.view_input(array, stream, name)
                kept.append(view)
            self._need(context.set_tensor_address(name, address), f"the address of {name}")
        shape = tuple(context.get_tensor_shape(self._output))
        size = 4 * math.prod(shape)
        # What stays on the device is the caller's, so it gets memory of its own.
        result = gpu.allocate(size, stream, "the result") if keep_on_device else self._buffer(slot, self._output, size)
        self._need(context.set_tensor_address(self._output, int(result.handle)), "the address of the result")
        needed = int(context.update_device_memory_size_for_shapes())
        with self._shared.workspace(needed, stream) as scratch:
            context.set_device_memory(int(scratch.handle), scratch.size)
            self._need(context.execute_async_v3(int(stream.handle)), "the call")
            if not keep_on_device:
                host, pinned = self._pinned(slot, self._output, size)
                gpu.copy(int(host.handle), int(result.handle), size, stream)
            gpu.synchronise(stream)
        del kept
        if self._jit is not None:
            self._jit.keep(shape)
        if keep_on_device:
            return gpu.as_array(result, shape)
        values = pinned[:size].view(np.float32).reshape(shape)
        if out is None:
            return values.copy()
        np.copyto(out, values)
        return out

    def _refit(self, graph: Path) -> None:
        """Give the engine the bundle's weights, which the graph file points to."""
        library, logger = self._shared.library, self._shared.logger
        refitter = library.Refitter(self._engine, logger)
        parsed = library.OnnxParserRefitter(refitter, logger).refit_from_file(str(graph))
        if not parsed or not refitter.refit_cuda_engine():
            raise EngineError(f"{self._record.file} does not take the weights of {graph.name}: {logger.last_error}")

    @contextmanager
    def _slot(self) -> Iterator[_Slot]:
        with self._lock:
            slot = self._slots.pop() if self._slots else None
        if slot is None:
            slot = translated(
                lambda: _Slot(self._engine, self._shared, self._create_context),
                f"{self._record.backend} makes no context for {self._record.file}",
            )
        yield slot
        with self._lock:  # only after success: the stream of a failed call may hold its error
            self._slots.append(slot)

    def _create_context(self, engine: Any) -> Any:
        strategy = self._shared.library.ExecutionContextAllocationStrategy.USER_MANAGED
        if self._jit is None:
            return engine.create_execution_context(strategy)
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        if any(profile.is_static for profile in self._record.profiles):
            config.cuda_graph_strategy = self._shared.library.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self._jit.attach(config)
        return engine.create_execution_context(config)

    def _upload(self, slot: _Slot, name: str, array: NDArray[Any]) -> int:
        values = np.ascontiguousarray(array, np.float32)
        target = self._buffer(slot, name, values.nbytes)
        host, pinned = self._pinned(slot, name, values.nbytes)
        pinned[: values.nbytes] = values.reshape(-1).view(np.uint8)
        self._shared.gpu.copy(int(target.handle), int(host.handle), values.nbytes, slot.stream)
        return int(target.handle)

    def _buffer(self, slot: _Slot, name: str, size: int) -> Any:
        if name not in slot.device or slot.device[name].size < size:
            slot.device.pop(name, None)
            slot.device[name] = self._shared.gpu.allocate(size, slot.stream, name)
        return slot.device[name]

    def _pinned(self, slot: _Slot, name: str, size: int) -> tuple[Any, NDArray[np.uint8]]:
        if name not in slot.pinned or slot.pinned[name][1].size < size:
            slot.pinned.pop(name, None)
            slot.pinned[name] = self._shared.gpu.pinned(size)
        return slot.pinned[name]

    def _need(self, accepted: Any, what: str) -> None:
        if accepted is False:
            raise EngineError(f"{self._record.file} does not take {what}: {self._shared.logger.last_error}")


class _JitCache:
    """TensorRT-RTX compiles its kernels when they are first run. What it compiled is kept in the user's cache folder,
    by engine and library version; the library itself refuses a file of another GPU or driver."""

    def __init__(self, engine: Any, record: EngineRecord) -> None:
        self._path = cache_folder("jit") / f"{record.key}-{record.library_version}.cache"
        self._cache: Any = None
        self._kept: set[tuple[int, ...]] = set()
        self._lock = threading.Lock()

    def attach(self, config: Any) -> None:
        """Give the cache to a context's configuration; a file that the library refuses is not used."""
        with self._lock:
            if self._cache is None:
                self._cache = config.create_runtime_cache()
                with contextlib.suppress(OSError):
                    content = self._path.read_bytes()
                    if not self._cache.deserialize(content):
                        _log.info("%s is of another GPU, driver or version: kernels are compiled again", self._path)
            config.set_runtime_cache(self._cache)

    def keep(self, shape: tuple[int, ...]) -> None:
        """Write the cache after the first call of a size, which may have compiled something. Processes that write at
        the same time each rename a whole file into place."""
        with self._lock:
            if shape in self._kept:
                return
            self._kept.add(shape)
            content = memoryview(self._cache.serialize())
            temporary = self._path.with_name(f".{self._path.name}.{os.urandom(4).hex()}.partial")
            try:
                temporary.write_bytes(content)
                temporary.replace(self._path)
            except OSError as error:
                _log.info("the kernels compiled now are not kept (%s)", error)
            finally:
                temporary.unlink(missing_ok=True)


def _logger_of(library: Any) -> Any:
    """The library's messages as log records, and its last error for ours."""
    levels = {library.ILogger.Severity.WARNING: logging.INFO, library.ILogger.Severity.INFO: logging.DEBUG}
    errors = (library.ILogger.Severity.ERROR, library.ILogger.Severity.INTERNAL_ERROR)

    class Logger(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.last_error = "it does not say why"

        def log(self, severity: Any, message: str) -> None:
            if severity in errors:
                self.last_error = " ".join(message.split())
            _log.log(levels.get(severity, logging.INFO if severity in errors else logging.DEBUG), "%s", message)

    return Logger()
