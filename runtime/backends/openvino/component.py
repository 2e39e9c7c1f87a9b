"""OpenVINO on the CPU, in float32 and bfloat16.

OpenVINO's own default precision is the fastest of the CPU, such as bfloat16. So the wanted precision is always set, and
read back. In bfloat16 the bundle's float32 graph runs, which OpenVINO lowers as it loads: streaming graphs exist in no
other precision, and a bundle's own bfloat16 graph is neither faster nor nearer to float32 (SD-size decoder: 52.0 dB
lowered, 51.2 dB its own; LTX-2 at a quarter of its width: 61.1 and 61.0 dB; times within the machine's noise; in the
model for every size).
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundle import ports
from ...errors import BackendUnavailable, EngineError
from ...extras import require
from ...system.file_identity import UnchangedFiles
from ...system.page_memory import own_page_memory
from ...system.processor import processor
from ..component import CallScope, ComponentCapabilities
from .models import FixedSizes, Models, SharedModel

__all__ = ["PRECISIONS", "OpenVinoComponent", "missing_openvino"]

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
_log = logging.getLogger(__name__)
# OpenVINO sets the process's locale to "C" while it compiles with a cache, and then sets back what it found. Two
# threads that compile at once would leave "C", in which Python reads text as ASCII.
_COMPILING = threading.RLock()


def missing_openvino(dtype: str = "float32") -> str | None:
    """Why OpenVINO cannot run here in that precision, or None.

    Raises:
        MissingExtra: it is not installed.
    """
    _library()
    if dtype not in PRECISIONS:
        return f"on the CPU it runs {' and '.join(PRECISIONS)}, not {dtype}"
    if dtype == "bfloat16" and "BF16" not in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return "this CPU has no bfloat16 instructions, so it would run in float32"
    return None


class OpenVinoComponent:
    """One graph, compiled for every size, and again for the sizes of calls that are specialised. If it knows the sizes,
    OpenVINO fuses more and packs the weights beforehand, and convolutions get fewer multiplications where that pays
    (`models.py`, `winograd.py`, benchmarks/profile.md).

    Args:
        graph: the ONNX file.
        dtype: the precision of the computation.
        threads: the number of threads that one engine call may use. None: one for each core.
        key: a name for what the graph and its weights hold. The compiled model is kept in the cache folder under it.
            Without a key it is not kept.
        files: the SHA-256 of the graph and its weights, which must not change.

    Attributes:
        models: the compiled models of the graph.

    Raises:
        BackendUnavailable: OpenVINO cannot run here in that precision.
        EngineError: it does not load the graph.
    """

    # Operators run one after the other, and read their inputs in the order of the graph.
    capabilities = ComponentCapabilities(steps=True, reuses_states=True)

    def __init__(
        self,
        graph: Path,
        *,
        dtype: str = "float32",
        threads: int | None = None,
        key: str = "",
        files: Mapping[Path, str] | None = None,
    ) -> None:
        reason = missing_openvino(dtype)
        if reason is not None:
            raise BackendUnavailable(f"backend openvino cannot run: {reason}")
        self._library = _library()
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[dtype],
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            # Threads bound to cores would share one core with another process's while others idle.
            "ENABLE_CPU_PINNING": False,
        }
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._graph, self._dtype, self._settings = graph, dtype, settings
        # Models are compiled later too, for sizes that become known, from the same files.
        self._files = UnchangedFiles(files or {})
        from .cache import CompiledModelCache  # here: only calls of this backend pay for it

        self._cache = CompiledModelCache(key) if key else None
        self.models = Models(self._compiled)

    def _compiled(self, sizes: FixedSizes | None) -> Any:
        with _COMPILING:
            return self._compiled_alone(sizes)

    def _compiled_alone(self, sizes: FixedSizes | None) -> Any:
        from .graph import fix_shapes, rewrite_for_cpu
        from .winograd import apply_winograd

        self._files.check()
        try:
            # By its path: OpenVINO reads external weights from the safetensors file in the same folder.
            source = _core().read_model(str(self._graph))
            self._output_names = [port.any_name for port in source.outputs]
            rewrite_for_cpu(source)
            if sizes is not None:
                fix_shapes(source, shapes=dict(sizes.shapes), values=dict(sizes.values))
                fewer = apply_winograd(source) if self._pays_to_add else 0
                of, size = self._graph.name, tuple(sizes.shapes[0][1])
                _log.info("%s: compiling for %s, %d convolutions with fewer multiplications", of, size, fewer)
            unkept: contextlib.AbstractContextManager[dict[str, str]] = contextlib.nullcontext({})
            with self._cache.checked() if self._cache and sizes is None else unkept as kept:
                model = _core().compile_model(source, "CPU", self._settings | kept)
        except Exception as error:  # OpenVINO's errors are plain RuntimeErrors
            raise EngineError(f"OpenVINO does not load {self._graph}: {_reason(error)}") from error
        got = model.get_property("INFERENCE_PRECISION_HINT").to_string()
        if got != PRECISIONS[self._dtype]:
            raise EngineError(f"OpenVINO runs {self._graph} in {got}, and {self._dtype} was asked for")
        return model

    @property
    def _pays_to_add(self) -> bool:
        """Whether additions cost less than the multiplications they save. In bfloat16 only on a CPU with vectors of
        bfloat16 and without units for matrix products (AMX), for which it was not measured."""
        have = processor().instructions
        return self._dtype == "float32" or ("avx512_bf16" in have and "amx_bf16" not in have)

    def run(
        self,
        inputs: Mapping[str, Any],
        *,
        call: CallScope,
        out: NDArray[Any] | None = None,
        keep_on_device: bool = False,
    ) -> Any:
        def ours(names: Sequence[str]) -> dict[str, NDArray[Any]]:
            return {} if out is None else {names[0]: out}

        results = self._run(partial(self.models.of_call, inputs, call), inputs, ours, call)
        # A view, which keeps its tensor. The engine's device is the host.
        return next(iter(results.values())) if out is None else out

    def step(
        self,
        inputs: Mapping[str, Any],
        *,
        call: CallScope,
        last: bool = False,
        out: NDArray[Any] | None = None,
        in_place: bool = False,
    ) -> dict[str, Any]:
        states = {
            ports.next_state(name): array if in_place else own_page_memory(array.shape)
            for name, array in inputs.items()
            if ports.is_state(name)
        }

        def ours(names: Sequence[str]) -> dict[str, NDArray[Any]]:
            return states if out is None else {names[0]: out, **states}

        return self._run(partial(self.models.of_step, inputs, call), inputs, ours, call)

    def _run(
        self,
        find: Callable[[], SharedModel],
        inputs: Mapping[str, Any],
        ours: Callable[[Sequence[str]], Mapping[str, NDArray[Any]]],
        call: CallScope,
    ) -> dict[str, NDArray[Any]]:
        """Run the model that `find` gives.

        Args:
            find: gives the model.
            inputs: arrays by input name.
            ours: gives, for the names of all outputs, the arrays that results are written to, by output name.
            call: the user call.

        Returns:
            The outputs by name, in the graph's order.
        """
        while True:
            model = find()
            with model.turn(call):
                if not model.is_spoiled:
                    return self._run_in(model, inputs, ours, call)
            # The call before was cancelled within this model, so `find` gives a new model.

    def _run_in(
        self,
        model: SharedModel,
        inputs: Mapping[str, Any],
        ours: Callable[[Sequence[str]], Mapping[str, NDArray[Any]]],
        call: CallScope,
    ) -> dict[str, NDArray[Any]]:
        compiled = model.compiled
        names = self._output_names
        given = ours(names)
        outputs = self._outputs(compiled, given)
        # A request of its own for every call; it costs under a millisecond.
        request = compiled.create_infer_request()
        # Copied where it must be: OpenVINO shares no memory that is marked read-only.
        arrays = [np.require(self._given_to(port, inputs), requirements=("C", "W")) for port in compiled.inputs]

        def stop() -> None:
            model.is_spoiled = True
            request.cancel()

        call.check()
        started = False
        try:
            for index, array in enumerate(arrays):
                request.set_input_tensor(index, self._library.Tensor(array, shared_memory=True))
            for index, tensor in enumerate(outputs):
                request.set_output_tensor(index, tensor)
            started = True
            request.start_async()
            call.on_cancel(stop)
            request.wait()
        except BaseException as error:
            # A failed run leaves the model as a cancelled run does.
            model.is_spoiled = model.is_spoiled or started
            if not isinstance(
                error, Exception
            ):  # Ctrl-C before the wait: the request may not write into the arrays any more
                _end(request)
                raise
            call.check()
            raise EngineError(f"OpenVINO failed while running: {_reason(error)}") from error
        finally:
            call.on_cancel(None)
            if model.is_spoiled:
                self.models.drop_spoiled()
        return {name: given.get(name, tensor.data) for name, tensor in zip(names, outputs, strict=True)}

    def _given_to(self, port: Any, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """The array for an input of a compiled model. If OpenVINO drops the node behind an input, because the node does
        nothing at the model's sizes, the input has the names of both, in any order."""
        found = [array for name, array in inputs.items() if name in port.names]
        if len(found) != 1:
            raise EngineError(f"{self._graph} has the input {port.any_name}, and the call gives {', '.join(inputs)}")
        return found[0]

    def _outputs(self, model: Any, ours: Mapping[str, NDArray[Any]]) -> list[Any]:
        """One tensor per output: over the array of that name, or else an empty tensor that OpenVINO resizes. The caller
        owns them. (The tensors of a request would be written again by its next run.)"""

        def tensor(name: str, port: Any) -> Any:
            if name in ours:
                return self._library.Tensor(ours[name], shared_memory=True)
            sizes = [length.get_length() if length.is_static else 0 for length in port.partial_shape]
            return self._library.Tensor(port.element_type, self._library.Shape(sizes))

        return [tensor(name, port) for name, port in zip(self._output_names, model.outputs, strict=True)]


def _end(request: Any) -> None:
    """Stop a request and wait for its end, also if it fails."""
    with contextlib.suppress(Exception):
        request.cancel()
        request.wait()


def _library() -> ModuleType:
    """OpenVINO itself.

    Raises:
        MissingExtra: it is not installed.
    """
    return require("openvino", extra="openvino")


@cache
def _core() -> Any:
    core = _library().Core()
    # Weights and compiled models are read, not mapped: if a mapped file is cut short, the process ends (SIGBUS).
    core.set_property({"ENABLE_MMAP": False})
    return core


def _reason(error: Exception) -> str:
    """The last line of OpenVINO's message: those before it are places in its source."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]
