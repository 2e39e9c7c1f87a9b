"""A device and a TensorRT in host memory, for everything around them: which buffers, in which order, with what waits.

Work that is put into a stream runs as late as it may: when the stream, or an event behind it, is waited for. So what
reads a result too early, or writes over an input too early, gets wrong numbers. "Engines" are files that name an ONNX
graph of the bundle, which ONNX Runtime runs on the addresses that the code under test gave. One that names no graph was
stripped of its `weights`, and runs after it was refitted from a graph that has them.
"""

import ctypes
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from latentrt.runtime.arrays.pixels import to_pixels
from latentrt.runtime.backends.cuda.device_frames import Rows
from latentrt.runtime.backends.cuda.device_memory import MemoryLedger
from latentrt.runtime.backends.cuda.devices import Buffer
from latentrt.runtime.backends.tensorrt import backend as tensorrt_backend
from latentrt.runtime.backends.tensorrt import opener as tensorrt
from latentrt.runtime.backends.tensorrt import shared_device
from latentrt.runtime.bundle.engine_records import EngineRecord
from latentrt.runtime.bundle.graph import Graph
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.bundle.profiles import Profile
from latentrt.runtime.errors import DeviceMemoryError, EngineError
from latentrt.runtime.system.hashing import sha256_of

__all__ = ["HostGpu", "OnDevice", "install", "values_at", "with_engines"]

_LOCK = threading.RLock()
_STREAMS: dict[int, "Stream"] = {}
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


class Stream:
    def __init__(self, log: list[str]) -> None:
        self.handle, self._log = len(_STREAMS) + 1, log
        self._ops: list[Callable[[], None]] = []
        _STREAMS[self.handle] = self

    def put(self, what: str, op: Callable[[], None]) -> None:
        with _LOCK:
            self._log.append(f"{self.handle}: {what}")
            self._ops.append(op)

    def record(self) -> SimpleNamespace:
        place = len(self._ops)
        self._log.append(f"{self.handle}: record")
        return SimpleNamespace(sync=lambda: self.run(place), stream=self)

    def wait(self, behind: Any) -> None:
        event = behind.record() if isinstance(behind, Stream) else behind
        self.put(f"wait for {event.stream.handle}", event.sync)

    def sync(self) -> None:
        self.run(len(self._ops))

    def free(self, content: Any) -> None:
        """Keep that until the work that is in the stream now is done."""
        with _LOCK:
            if any(op is not _nothing for op in self._ops):
                self._ops.append(lambda: _drop(content))

    def run(self, place: int) -> None:
        with _LOCK:
            for index in range(place):
                op, self._ops[index] = self._ops[index], _nothing
                op()

    def recorded(self, enqueue: Callable[[], None]) -> list[Callable[[], None]]:
        start = len(self._ops)
        enqueue()
        ops, self._ops[start:] = self._ops[start:], []
        return ops


def _nothing() -> None:
    pass


def _drop(content: Any) -> None:
    pass


class HostGpu:
    """Stands where `devices.Gpu` does. `room`: the bytes that it has."""

    room = 1 << 40
    records_graphs = True
    latest: "HostGpu"
    made = 0

    def __init__(self, index: int = 0, ledger: MemoryLedger | None = None) -> None:
        self.index, self.ledger, self.log = index, ledger or MemoryLedger(), list[str]()
        self.recorded, self.allocated = 0, list[str]()
        self.handed_over = list[tuple[int, int | None]]()  # the address, and the stream in whose order it is freed
        self.default = Stream(self.log)
        HostGpu.latest = self
        HostGpu.made += 1

    @property
    def available(self) -> int:
        free = self.room - self.ledger.taken
        return free if self.ledger.left is None else min(free, self.ledger.left)

    def free_bytes(self) -> tuple[int, int]:
        return self.room - self.ledger.taken, self.room

    @contextmanager
    def current(self) -> Iterator[None]:
        yield

    def new_stream(self) -> Stream:
        return Stream(self.log)

    def stream_of(self, pointer: int) -> Stream:
        return _STREAMS[pointer] if pointer else self.default

    def allocate(self, size: int, stream: Any, what: str) -> Buffer:
        size = max(size, 1)
        self.allocated.append(what)
        self.ledger.take(size, what)
        if self.ledger.taken > self.room:
            self.ledger.give_back(size)
            raise DeviceMemoryError(f"the GPU has no room for {size} bytes of {what}")
        return Buffer(_Memory(size, stream), size, self.ledger)

    def hand_over(self, buffer: Buffer, pointer: int | None) -> None:
        buffer.memory.stream = self.stream_of(pointer or 0)
        self.handed_over.append((buffer.handle, pointer))

    def pinned(self, size: int) -> tuple[Any, Any]:
        memory = _Memory(max(size, 1))
        return memory, memory.content[memory.offset :]

    def copy(self, target: int, source: int, size: int, stream: Stream) -> None:
        def move() -> None:
            ctypes.memmove(target, source, size)

        stream.put(f"copy {size}", move)

    def copy_rows(self, target: int, pitch: int, rows: Rows, stream: Stream) -> None:
        def move() -> None:
            for row in range(rows.count):
                ctypes.memmove(target + row * pitch, rows.source + row * rows.pitch, rows.width)

        stream.put(f"rows {rows.count}", move)

    def record_graph(self, enqueue: Callable[[], None], stream: Stream) -> SimpleNamespace:
        if not self.records_graphs:
            raise EngineError("CUDA records no graph: cudaErrorStreamCaptureUnsupported")
        self.recorded += 1
        ops = stream.recorded(enqueue)
        return SimpleNamespace(launch=lambda on: [on.put("launch", op) for op in ops])

    def synchronise(self, stream: Stream) -> None:
        stream.sync()

    def view_input(self, array: Any, stream: Stream, what: str) -> tuple[Any, int, tuple[int, ...]]:
        return array, array.values.ctypes.data, array.shape

    def view_memory(self, array: Any) -> tuple[Any, int, int]:
        return array, array.values.ctypes.data, array.values.nbytes

    def as_array(self, buffer: Buffer, shape: tuple[int, ...], dtype: np.dtype[Any]) -> "OnDevice":
        return OnDevice(values_at(buffer.handle, shape, dtype))


class _Memory:
    """Freed in the order of a stream, if it has one."""

    def __init__(self, size: int, stream: Stream | None = None) -> None:
        self.content = np.full(size + 256, 0xAB, np.uint8)  # not zeros: what is read before it is written shows
        self.offset = -self.content.ctypes.data % 256
        self.handle, self.size, self.stream = self.content.ctypes.data + self.offset, size, stream

    def __del__(self) -> None:
        if self.stream is not None:
            self.stream.free(self.content)


class OnDevice:
    """An array that says it lies on a CUDA device."""

    def __init__(self, values: Any) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def __dlpack__(self, *, stream: Any = None, **options: Any) -> Any:
        assert stream == -1, "who waits for the values has seen to it"
        return self.values.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


class Engine:
    def __init__(self, content: bytes) -> None:
        said = json.loads(bytes(content))
        self.adds, self.weights = said["adds"], said.get("weights", [])
        if not self.weights:
            self.load(said["graph"])

    def load(self, graph: str) -> None:
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self.inputs = {one.name: np.dtype(_DTYPES[one.type]) for one in self.session.get_inputs()}
        self.outputs = [one.name for one in self.session.get_outputs()]
        self.dtypes = {one.name: np.dtype(_DTYPES[one.type]) for one in self.session.get_outputs()}
        self.names = [*self.inputs, *self.outputs, *self.adds]
        self.num_io_tensors = len(self.names)
        self.get_tensor_name = self.names.__getitem__

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name in self.inputs else "out"

    def get_tensor_location(self, name: str) -> str:
        return "host" if self.inputs.get(name) == np.int64 else "device"

    def get_tensor_dtype(self, name: str) -> Any:
        return np.uint8 if name == "pixels" else (self.inputs | self.dtypes).get(name, np.float32)

    def create_execution_context(self, strategy: str) -> "Context":
        return Context(self)


class Refitter:
    def __init__(self, engine: Engine, log: Any) -> None:
        self.engine, self.graph = engine, ""
        self.missing = list(engine.weights)

    def get_missing_weights(self) -> list[str]:
        return self.missing

    def refit_cuda_engine(self) -> bool:
        if self.missing:
            return False
        self.engine.load(self.graph)
        return True


class OnnxParserRefitter:
    def __init__(self, refitter: Refitter, log: Any) -> None:
        self.refitter = refitter

    def refit_from_file(self, path: str) -> bool:
        held = {one.name for one in onnx.load(path, load_external_data=False).graph.initializer}
        self.refitter.graph = path
        self.refitter.missing = [name for name in self.refitter.missing if name not in held]
        return not self.refitter.missing


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.shapes, self.addresses = engine, dict[str, Any](), dict[str, int]()
        self._sizes: dict[Any, dict[str, tuple[int, ...]]] = {}

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def infer_shapes(self) -> list[str]:
        return []

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self.engine.inputs:
            return tuple(self.shapes[name])
        feeds = {
            key: values_at(self.addresses[key], self.shapes[key], dtype)
            if dtype == np.int64
            else np.zeros(self.shapes[key], dtype)
            for key, dtype in self.engine.inputs.items()
        }
        key = tuple((one, array.shape, tuple(array) if array.dtype == np.int64 else ()) for one, array in feeds.items())
        if key not in self._sizes:
            self._sizes[key] = {one: array.shape for one, array in self._outputs(feeds).items()}
        return self._sizes[key][name]

    def update_device_memory_size_for_shapes(self) -> int:
        return 16 * int(np.prod(self.get_tensor_shape(self.engine.outputs[0])))

    def set_device_memory(self, address: int, size: int) -> None:
        assert address % 256 == 0
        assert size >= self.update_device_memory_size_for_shapes()
        self.scratch = address, size

    def execute_async_v3(self, stream: int) -> bool:
        addresses, shapes, scratch = dict(self.addresses), dict(self.shapes), self.scratch
        dtypes = self.engine.inputs

        def execute() -> None:
            feeds = {name: values_at(addresses[name], shapes[name], dtype) for name, dtype in dtypes.items()}
            ctypes.memset(scratch[0], 0xCD, scratch[1])
            for name, array in self._outputs(feeds).items():
                ctypes.memmove(addresses[name], np.ascontiguousarray(array).ctypes.data, array.nbytes)

        _STREAMS[stream].put("compute", execute)
        return True

    def _outputs(self, feeds: dict[str, Any]) -> dict[str, Any]:
        results = dict(zip(self.engine.outputs, self.engine.session.run(None, feeds), strict=True))
        first = next(iter(results.values()))
        added: dict[str, Callable[[Any], Any]] = {
            "pixels": to_pixels,
            "not_finite": lambda x: np.array((~np.isfinite(x)).sum(), np.float32),
        }
        return results | {name: added[name](first) for name in self.engine.adds}


def values_at(address: int, shape: Iterable[int], dtype: Any) -> Any:
    """The array at an address, as it is now: nothing is waited for."""
    shape = tuple(shape)
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    content = (ctypes.c_uint8 * size).from_address(address)
    return np.frombuffer(content, dtype).reshape(shape)


LIBRARY = SimpleNamespace(
    __version__="0.0",
    TensorIOMode=SimpleNamespace(OUTPUT="out"),
    TensorLocation=SimpleNamespace(HOST="host"),
    ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="ours"),
    Runtime=lambda log: SimpleNamespace(deserialize_cuda_engine=Engine),
    nptype=lambda dtype: dtype,
    Refitter=Refitter,
    OnnxParserRefitter=OnnxParserRefitter,
)


def install(patch: pytest.MonkeyPatch) -> None:
    """Let backend "tensorrt" find this device and this library."""
    patch.setattr(
        tensorrt_backend, "missing_library", lambda backend, device=0: None if backend == "tensorrt" else "not here"
    )
    patch.setattr(tensorrt, "require", lambda name, extra: LIBRARY)
    patch.setattr(tensorrt, "compute_capability", lambda device=0: "0.0")
    patch.setattr(shared_device, "Gpu", HostGpu)
    patch.setattr(shared_device, "engine_log", lambda library: SimpleNamespace(last_error="nothing"))


def with_engines(bundle: Path, profiles: Callable[[Graph], tuple[Profile, ...]], adds: Callable[[Graph], Any]) -> None:
    """Give a bundle an engine of every graph."""
    manifest = Manifest.open(bundle)
    hashes = {file.name: file.sha256 for file in manifest.files}
    records = []
    for graph in manifest.every_graph:
        file = f"{graph.file}.engine"
        added = list(adds(graph))
        (bundle / file).write_text(json.dumps({"graph": str(bundle / graph.file), "adds": added}))
        records.append(
            EngineRecord(
                graph.component, graph.causal, graph.dtype, "tensorrt", graph.file, hashes[graph.file],
                hashes[graph.weights], "0.0", ("0.0",), profiles(graph), {"adds": added}, file, file,
                (bundle / file).stat().st_size, sha256_of(bundle / file), kind=graph.kind,
            )
        )  # fmt: skip
    replace(manifest, engines=tuple(records)).write()
