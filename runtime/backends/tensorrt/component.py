"""One TensorRT engine as a `Component`, and as a step of a stream or of exact strips.

Not run yet by us: no GPU was there while this was written. It follows the documented interfaces of TensorRT 10 and 11,
TensorRT-RTX 1.7, cuda-core 1 and cuda-bindings 13.
"""

import mmap
import threading
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundle.added_outputs import NOT_FINITE, PIXELS
from ...bundle.engine_records import EngineRecord, warmup_command
from ...bundle.manifest import Graph
from ...bundle.profiles import choose_profile, sizes_of
from ...errors import DeviceMemoryError, EngineError, InputError
from ..component import CallScope, ComponentCapabilities, NotFinite
from ..cuda.device_array import DeviceArray
from ..cuda.device_frames import DeviceFrames
from ..cuda.device_memory import mib
from ..cuda.devices import translated
from .engine_context import EngineContext
from .engine_tensors import EngineTensors
from .jit_cache import JitCache
from .shared_device import SharedDevice
from .smaller_tiles import tile_that_fits

__all__ = ["TensorRTComponent"]

_SMALLER = {
    "stream": "; give it fewer frames at a time (frames_per_chunk), or stream in tiles (enable_tiling)",
    "exact": "; take lower strips (enable_tiling(exact=True, strip=...))",
}


class TensorRTComponent:
    """The engine of `record`, built from `graph`, whose file was looked at; `ratio` is the model's pixels per latent
    cell.

    Raises:
        EngineError: the library does not read it. DeviceMemoryError: its weights do not fit.
    """

    def __init__(self, folder: Path, record: EngineRecord, graph: Graph, ratio: int, shared: SharedDevice) -> None:
        self._lanes: list[EngineContext] = []  # first, so that contexts go before what they run on
        self._record, self._graph, self._ratio, self._shared = record, graph, ratio, shared
        self._lock = threading.Lock()
        weights_bytes = record.bytes + record.stripped_bytes
        shared.gpu.ledger.take(weights_bytes, f"weights of {record.file}")
        weakref.finalize(self, shared.gpu.ledger.give_back, weights_bytes)
        with shared.gpu.current():
            self._engine = self._deserialised(folder / record.file, weights_bytes)
            if record.settings.get("strip_weights") or record.settings.get("refit"):
                self._refit(folder / record.graph)
            self._tensors = EngineTensors(self._engine, shared.library)
            self._jit = JitCache(record) if record.backend == "tensorrt-rtx" else None
            self._made_with = translated(self._context_options, f"{record.backend} does not prepare {record.file}")

    def _deserialised(self, path: Path, weights_bytes: int) -> Any:
        shared, record = self._shared, self._record
        if record.settings.get("version_compatible"):
            shared.runtime.engine_host_code_allowed = True  # it brings a runtime of its own; its hash is the record's
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            engine = shared.runtime.deserialize_cuda_engine(content)
        if engine is not None:
            return engine
        free, _ = shared.gpu.free_bytes()  # whatever a cap leaves, in which the weights are counted already
        if free < weights_bytes:
            raise DeviceMemoryError(
                f"the GPU has no room for the {mib(weights_bytes)} of {record.file}: {mib(free)} are free; release "
                f"other models, or build in a lower precision"
            )
        raise EngineError(f"{record.backend} does not read {record.file}: {shared.log.last_error}")

    @property
    def capabilities(self) -> ComponentCapabilities:
        """Pixels, and counts of NaN and infinity, are outputs that the engine was built with."""
        return ComponentCapabilities(
            steps=True,
            pixels=self._tensors.gives_pixels,
            counts_nonfinite=self._tensors.counts_nonfinite,
            keeps_results=True,
        )

    def run(
        self,
        inputs: Mapping[str, Any],
        *,
        call: CallScope,
        out: NDArray[Any] | None = None,
        keep_on_device: bool = False,
        pixels: bool = False,
        stream: int | None = None,
    ) -> Any:
        """As `Component.run`. `pixels`: the result as uint8, channels last, converted on the device (only where
        `gives_pixels`). `stream`: a CUDA stream of the caller's: device inputs are read after what is in it now, and
        what is put into it later finds the result; with `keep_on_device` this may return before the result is there.

        Raises:
            NotFinite: the engine looks at its results itself, wherever they stay, and found NaN or infinity.
        """
        name, tensors = PIXELS if pixels else self._tensors.result, self._tensors
        handed_out = {name} if keep_on_device else set()
        on_host = {NOT_FINITE} if tensors.counts_nonfinite else set()
        with self._running(inputs, call, on_host | ({name} - handed_out), handed_out, stream) as results:
            bad = int(results.get(NOT_FINITE, 0))
            result = results[name]
            if keep_on_device:
                result.hand_over(stream)
            elif not bad:
                result = _copied(result, out)
        if bad:
            raise NotFinite(bad, int(np.prod(result.shape)))
        return result

    def step(
        self,
        inputs: Mapping[str, Any],
        *,
        call: CallScope,
        last: bool = False,
        out: NDArray[Any] | None = None,
        keep_result: bool = False,
        pixels: bool = False,
    ) -> dict[str, Any]:
        """As `StreamingComponent.step`: the result first, as an array (in `out`, if that is given), with `pixels` as
        uint8, or with `keep_result` as `DeviceFrames` for the next stage; states stay on the device.

        Raises:
            NotFinite: as `run`.
        """
        tensors, states = self._tensors, self._tensors.states
        result, unwanted = (PIXELS, tensors.result) if pixels else (tensors.result, PIXELS)
        kept = states | {result} if keep_result else states
        on_host = [name for name in tensors.outputs if name not in kept and name != unwanted]
        with self._running(inputs, call, on_host, kept, None) as results:
            bad = int(results.pop(NOT_FINITE, 0))
            arrays: dict[str, Any] = {
                name: results[name] if name in kept else _copied(results[name], out if name == result else None)
                for name in results
            }
        first = arrays.pop(result)
        if bad:
            raise NotFinite(bad, int(np.prod(first.shape)))
        return {tensors.result: DeviceFrames.of(first) if keep_result else first, **arrays}

    @contextmanager
    def _running(
        self,
        inputs: Mapping[str, Any],
        call: CallScope,
        on_host: Collection[str],
        handed_out: Collection[str],
        callers: int | None,
    ) -> Iterator[dict[str, Any]]:
        """One call: its outputs by name, as arrays that are the lane's until the body ends, and as device arrays."""
        shared, tensors = self._shared, self._tensors
        sizes = sizes_of(inputs)
        profile = choose_profile(self._record.profiles, sizes, self._record.kind)
        call.check()
        self._check_compiled(sizes, call)
        with shared.gpu.current(), self._engine_context() as lane:
            theirs = None if callers is None else shared.gpu.stream_of(callers)
            try:
                if theirs is not None:
                    translated(partial(lane.stream.wait, theirs), "CUDA puts no call behind the caller's stream")
                lane.take(profile, inputs)
                places = {name: lane.place(name, handed_out=name in handed_out) for name in tensors.outputs}
                needed = int(lane.context.update_device_memory_size_for_shapes())
                with shared.workspaces.turn(needed, lane.stream) as scratch:
                    lane.compute(scratch, captured=self._is_captured(profile))
            except DeviceMemoryError as error:
                raise self._too_large(lane, inputs, error) from error
            results: dict[str, Any] = {name: lane.give(name, places[name]) for name in on_host}
            done = lane.end()
            for name in handed_out:
                shape, dtype = lane.shape(name), tensors.dtype(name)
                results[name] = DeviceArray(shared.gpu, places[name], shape, dtype, done)
            if theirs is not None:
                translated(partial(theirs.wait, done), "CUDA lets the caller's stream wait for no call")
            if on_host or theirs is None:
                shared.gpu.synchronise(lane.stream)
            if self._jit is not None:
                self._jit.keep(sizes)
            yield results

    def _check_compiled(self, sizes: Mapping[str, Sequence[int]], call: CallScope) -> None:
        """Refuse a call that would compile kernels where none may: before it has a context, whose making compiles."""
        if self._jit is None or self._shared.may_compile or call.specialise or self._jit.knows(sizes):
            return
        given = ", ".join(f"{name} {'x'.join(map(str, size))}" for name, size in sizes.items())
        record = self._record
        raise EngineError(
            f"{record.file}, {given}: its kernels would be compiled now, and allow_build=False forbids that: run "
            f"`{warmup_command('BUNDLE', record.backend, record.dtype, record.kind)}` with the size, --batch and tiles "
            f"of your calls, or vae.warmup([shape])"
        )

    def _is_captured(self, profile: int) -> bool:
        """Calls of one size are recorded as a CUDA graph; TensorRT-RTX records its own."""
        return self._jit is None and self._record.profiles[profile].is_static

    def _too_large(self, lane: EngineContext, inputs: Mapping[str, Any], error: DeviceMemoryError) -> DeviceMemoryError:
        """The error with the tile that would fit, as far as the library tells."""
        shapes = {name: tuple(array.shape) for name, array in inputs.items()}
        given = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
        advice = _SMALLER.get(self._record.kind, "")
        if self._record.kind == "whole":
            shared = self._shared
            room = shared.gpu.available, shared.workspaces.owned_bytes
            found = tile_that_fits(self._graph, shapes, self._ratio, lambda smaller: self._need(lane, smaller), *room)
            advice = "; build engines for smaller tiles with `latentrt build --tile`"
            if found is not None:
                (height, width), size = found
                advice = f"; tiles of {height}x{width} pixels need {mib(size)} and would fit"
        return DeviceMemoryError(f"{self._record.file}, {given}: {error}{advice}")

    def _need(self, lane: EngineContext, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int] | None:
        index = next((index for index, profile in enumerate(self._record.profiles) if profile.holds(shapes)), None)
        try:
            return None if index is None else lane.bytes_needed(index, shapes)
        except EngineError:  # advice is no place to fail
            return None

    def _refit(self, graph: Path) -> None:
        """Give the engine the bundle's weights, which the graph file points to: all of them, or it does not run."""
        library, log = self._shared.library, self._shared.log
        refitter = library.Refitter(self._engine, log)
        parsed = library.OnnxParserRefitter(refitter, log).refit_from_file(str(graph))
        missing = ", ".join(refitter.get_missing_weights())
        if not parsed or missing or not refitter.refit_cuda_engine():
            lacking = f" (it still wants {missing})" if missing else ""
            raise EngineError(
                f"{self._record.file} does not take the weights of {graph.name}{lacking}: {log.last_error}; build it "
                f"without --strip-weights and --refit"
            )

    @contextmanager
    def _engine_context(self) -> Iterator[EngineContext]:
        with self._lock:
            lane = self._lanes.pop() if self._lanes else None
        if lane is None:
            lane = translated(
                lambda: EngineContext(
                    self._engine.create_execution_context(self._made_with),
                    self._tensors,
                    self._shared.gpu,
                    self._record.file,
                    self._shared.log,
                ),
                f"{self._record.backend} makes no context for {self._record.file}",
            )
        try:
            yield lane
        except InputError:  # before anything was computed: making another context may take seconds
            lane.end()
            self._keep(lane)
            raise
        self._keep(lane)  # only after success: the stream of a failed call may hold its error

    def _keep(self, lane: EngineContext) -> None:
        with self._lock:
            self._lanes.append(lane)

    def _context_options(self) -> Any:
        """What contexts are made with; TensorRT-RTX's kernels that are kept are read here, which compiles nothing."""
        strategy = self._shared.library.ExecutionContextAllocationStrategy.USER_MANAGED
        if self._jit is None:
            return strategy
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        if any(profile.is_static for profile in self._record.profiles):
            config.cuda_graph_strategy = self._shared.library.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        # The library's default compiles in the background, and runs slower kernels until it is done: what a warm-up
        # keeps would lack the fast ones, and a later call would compile them.
        eager = self._shared.library.DynamicShapesKernelSpecializationStrategy.EAGER
        config.dynamic_shapes_kernel_specialization_strategy = eager
        self._jit.attach(config)
        return config


def _copied(values: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
    if out is None:
        return values.copy()
    np.copyto(out, values)
    return out
