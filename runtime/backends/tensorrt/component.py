"""One TensorRT engine as a component, which also runs the steps of streams and strips.

It has not run on a GPU yet: none was there when this was written. It follows the documented interfaces of TensorRT 10
and 11, TensorRT-RTX 1.7, cuda-core 1 and cuda-bindings 13.
"""

import mmap
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundle.engine_records import EngineRecord, warmup_command
from ...bundle.graph import Graph
from ...bundle.ports import NOT_FINITE, PIXELS
from ...bundle.profiles import choose_profile, sizes_of
from ...errors import DeviceMemoryError, EngineError, InputError
from ...system.forked_process import finalize_in_own_process, keep_in_forked_child
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
    """One loaded engine.

    Args:
        folder: the bundle.
        record: the engine's record. Its file was checked.
        graph: the graph that the engine was built from.
        ratio: the model's pixels per latent cell.
        shared: what the engines of the bundle share.

    Raises:
        EngineError: the library does not read the engine. DeviceMemoryError: its weights do not fit.
    """

    def __init__(self, folder: Path, record: EngineRecord, graph: Graph, ratio: int, shared: SharedDevice) -> None:
        self._contexts: list[EngineContext] = []  # first, so that contexts are freed before the engine
        self._record, self._graph, self._ratio, self._shared = record, graph, ratio, shared
        self._lock = threading.Lock()
        weights_bytes = record.bytes + record.stripped_bytes
        shared.gpu.ledger.take(weights_bytes, f"weights of {record.file}")
        finalize_in_own_process(self, shared.gpu.ledger.give_back, weights_bytes)
        keep_in_forked_child(self)
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
            shared.runtime.engine_host_code_allowed = True  # it brings its own runtime; the record has its hash
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            engine = shared.runtime.deserialize_cuda_engine(content)
        if engine is not None:
            return engine
        free, _ = shared.gpu.free_bytes()  # not by the ledger, which counts the weights already
        if free < weights_bytes:
            raise DeviceMemoryError(
                f"the GPU has no memory for the {mib(weights_bytes)} of {record.file}: {mib(free)} are free; release "
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
        """As `Component.run`.

        Args:
            pixels: give the result as uint8, channels last, converted on the device.
            stream: the pointer of a CUDA stream of the caller's. Device inputs are read after the work that is in it
                now, and work that is put into it later finds the result. With `keep_on_device` the call may return
                before the result is there.

        Raises:
            NotFinite: the engine counts NaN and infinity itself, and found some.
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
        """As `SteppingComponent.step`. With `keep_result` the result is `DeviceFrames` for the next stage. States stay
        on the device.

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
        """One call. Gives its outputs by name: host arrays, which are the context's again when the body ends, and
        device arrays."""
        shared, tensors = self._shared, self._tensors
        sizes = sizes_of(inputs)
        profile = choose_profile(self._record.profiles, sizes, self._record.kind)
        call.check()
        self._check_compiled(sizes, call)
        with shared.gpu.current(), self._engine_context() as context:
            theirs = None if callers is None else shared.gpu.stream_of(callers)
            try:
                if theirs is not None:
                    translated(partial(context.stream.wait, theirs), "CUDA puts no call behind the caller's stream")
                context.take(profile, inputs)
                places = {name: context.place(name, handed_out=name in handed_out) for name in tensors.outputs}
                needed = int(context.context.update_device_memory_size_for_shapes())
                with shared.workspaces.turn(needed, context.stream) as scratch:
                    context.compute(scratch, captured=self._is_captured(profile))
            except DeviceMemoryError as error:
                raise self._too_large(context, inputs, error) from error
            results: dict[str, Any] = {name: context.give(name, places[name]) for name in on_host}
            done = context.end()
            for name in handed_out:
                shape, dtype = context.shape(name), tensors.dtype(name)
                results[name] = DeviceArray(shared.gpu, places[name], shape, dtype, done)
            if theirs is not None:
                translated(partial(theirs.wait, done), "CUDA lets the caller's stream wait for no call")
            if on_host or theirs is None:
                shared.gpu.synchronise(context.stream)
            if self._jit is not None:
                self._jit.keep(sizes)
            yield results

    def _check_compiled(self, sizes: Mapping[str, Sequence[int]], call: CallScope) -> None:
        """Refuse a call that would compile kernels, if it may not. Making a context compiles, so this comes before
        it."""
        if self._jit is None or self._shared.may_compile or call.specialise or self._jit.knows(sizes):
            return
        given = ", ".join(f"{name} {tuple(size)}" for name, size in sizes.items())
        record = self._record
        raise EngineError(
            f"{record.file}, {given}: its kernels would be compiled now, and allow_build=False forbids that: run "
            f"`{warmup_command('BUNDLE', record.backend, record.dtype, record.kind)}` with the size, --batch and tiles "
            f"of your calls, or vae.warmup([shape])"
        )

    def _is_captured(self, profile: int) -> bool:
        """Whether calls are recorded as a CUDA graph: those of one size. TensorRT-RTX records them itself."""
        return self._jit is None and self._record.profiles[profile].is_static

    def _too_large(
        self, context: EngineContext, inputs: Mapping[str, Any], error: DeviceMemoryError
    ) -> DeviceMemoryError:
        """The error, with the size of a tile that would fit if the library knows one."""
        shapes = {name: tuple(array.shape) for name, array in inputs.items()}
        given = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        advice = _SMALLER.get(self._record.kind, "")
        if self._record.kind == "whole":
            shared = self._shared
            left = shared.gpu.available, shared.workspaces.owned_bytes
            found = tile_that_fits(
                self._graph, shapes, self._ratio, lambda smaller: self._need(context, smaller), *left
            )
            advice = "; build engines for smaller tiles with `latentrt build --tile`"
            if found is not None:
                (height, width), size = found
                advice = f"; tiles of {height}x{width} pixels need {mib(size)} and would fit"
        return DeviceMemoryError(f"{self._record.file}, {given}: {error}{advice}")

    def _need(self, context: EngineContext, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int] | None:
        index = next((index for index, profile in enumerate(self._record.profiles) if profile.holds(shapes)), None)
        try:
            return None if index is None else context.bytes_needed(index, shapes)
        except EngineError:  # the advice is left out
            return None

    def _refit(self, graph: Path) -> None:
        """Give the engine the bundle's weights, which the graph file points to. An engine that lacks any does not
        run."""
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
            context = self._contexts.pop() if self._contexts else None
        if context is None:
            context = translated(
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
            yield context
        except InputError:  # nothing was computed: the context is kept, because making another may take seconds
            context.end()
            self._keep(context)
            raise
        self._keep(context)  # after success only: the stream of a failed call may hold its error

    def _keep(self, context: EngineContext) -> None:
        with self._lock:
            self._contexts.append(context)

    def _context_options(self) -> Any:
        """The options of execution contexts. Kept kernels of TensorRT-RTX are read here, which compiles nothing."""
        strategy = self._shared.library.ExecutionContextAllocationStrategy.USER_MANAGED
        if self._jit is None:
            return strategy
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        if any(profile.is_static for profile in self._record.profiles):
            config.cuda_graph_strategy = self._shared.library.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        # The library's default compiles in the background, and runs slower kernels meanwhile. The kernels that a
        # warm-up keeps would then lack the fast ones, and a later call would compile them.
        eager = self._shared.library.DynamicShapesKernelSpecializationStrategy.EAGER
        config.dynamic_shapes_kernel_specialization_strategy = eager
        self._jit.attach(config)
        return config


def _copied(values: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
    if out is None:
        return values.copy()
    np.copyto(out, values)
    return out
