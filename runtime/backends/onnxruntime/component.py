"""ONNX Runtime on the CPU, CUDA and TensorRT providers."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundle import ports
from ...errors import BackendUnavailable, BundleError, EngineError, InputError
from ...extras import packages_of, require
from ...system.forked_process import keep_in_forked_child
from ...system.page_memory import own_page_memory
from ...system.processor import engine_threads
from ...system.thread_limit import check_threads
from ..component import CallScope, ComponentCapabilities
from ..cuda.devices import has_nvidia_driver
from .arena import Arena
from .graph_path import utf8_path
from .options import OnnxRuntimeOptions

__all__ = ["PROVIDERS", "OnnxRuntimeComponent", "missing_provider", "shared_arena"]

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


def missing_provider(provider: str) -> str | None:
    """Why a provider cannot run here, or None.

    Raises:
        MissingExtra: ONNX Runtime is not installed.
    """
    runtime = require("onnxruntime", extra="cpu" if provider == "cpu" else "gpu")
    if PROVIDERS[provider] in runtime.get_available_providers():
        # The list says what ONNX Runtime was built with. It does not say whether there is a GPU.
        return None if provider == "cpu" or has_nvidia_driver() else "no NVIDIA driver answers on this machine"
    both = packages_of("onnxruntime")
    if len(both) > 1:
        return (
            f"{' and '.join(both)} are both installed and hide each other, and {PROVIDERS[provider]} is not in the "
            f'files that were left: run `pip uninstall {" ".join(both)}`, and then `pip install "latentrt[gpu]"`'
        )
    return (
        f"the installed onnxruntime {runtime.__version__} has no {PROVIDERS[provider]}: in an environment without "
        f'onnxruntime, run `pip install "latentrt[gpu]"`'
    )


def shared_arena(provider: str) -> Arena | None:
    """The arena that the sessions of a provider compute in. None: each session has its own."""
    return Arena.of_process(require("onnxruntime", extra="cpu")) if provider == "cpu" else None


class OnnxRuntimeComponent:
    """One session.

    Args:
        graph: the ONNX file.
        provider: "cpu", "cuda" or "tensorrt".
        threads: the number of threads that one engine call may use. None: one for each core that may be used.
        session_options: `OnnxRuntimeOptions`, or a mapping as `OnnxRuntimeOptions.of` takes it.
        cache: a folder for the engines that the TensorRT provider builds of this graph and these weights.

    Raises:
        BackendUnavailable: the provider cannot run here.
        EngineError: ONNX Runtime does not load the graph.
    """

    def __init__(
        self,
        graph: Path,
        *,
        provider: str = "cpu",
        threads: int | None = None,
        session_options: OnnxRuntimeOptions | Mapping[str, Any] | None = None,
        cache: Path | None = None,
    ) -> None:
        reason = missing_provider(provider)
        if reason is not None:
            raise BackendUnavailable(f"provider {provider!r} cannot run: {reason}")
        self._runtime = require("onnxruntime", extra="cpu")
        self._device = "cpu" if provider == "cpu" else "cuda"
        # On a CPU operators run one after the other, and read their inputs in the order of the graph.
        self.capabilities = ComponentCapabilities(steps=True, reuses_states=self._device == "cpu")
        chain = list(dict.fromkeys([PROVIDERS[provider], *([PROVIDERS["cuda"]] if provider == "tensorrt" else [])]))
        try:
            self._arena = shared_arena(provider)
            make_options = partial(self._options, threads, OnnxRuntimeOptions.of(session_options))
            self._session = self._opened(graph, make_options, _providers(chain, cache))
        except (BackendUnavailable, BundleError, EngineError, InputError):
            raise
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise EngineError(f"ONNX Runtime does not load {graph}: {_first_line(error)}") from error
        if self._session.get_providers()[0] != chain[0]:
            # ONNX Runtime goes on without the provider if its libraries do not load.
            raise BackendUnavailable(
                f"provider {provider!r} cannot run: ONNX Runtime could not start {chain[0]} "
                f"(is the NVIDIA driver there, and the CUDA libraries of its version?)"
            )
        self._output = self._session.get_outputs()[0].name
        keep_in_forked_child(self)

    def _opened(self, graph: Path, make_options: Callable[[], Any], providers: Any) -> Any:
        """A session of the graph. On a CPU it leaves no weights file mapped."""
        from .weights import HeldWeights  # here: only calls of this backend pay for it

        for every in (False, True):
            options = make_options()
            if not options.enable_cpu_mem_arena:
                self._arena = None
            if self._arena is not None:
                self._arena.use_for(options)
            # Kept as long as the session: ONNX Runtime does not promise to keep the memory that it is given.
            self._held = HeldWeights(self._runtime, graph, every=every) if self._device == "cpu" else None
            if self._held is not None:
                self._held.give_to(options)
            check_threads(options.intra_op_num_threads or None)
            with utf8_path(graph) as path:
                session = self._runtime.InferenceSession(path, options, providers=providers)
            if self._held is None or not self._held.leave_a_file_mapped:
                return session
        return session

    def run(
        self,
        inputs: Mapping[str, Any],
        *,
        call: CallScope,
        out: NDArray[Any] | None = None,
        keep_on_device: bool = False,
    ) -> Any:
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, self._to_value(array))
        if out is not None:
            binding.bind_ortvalue_output(self._output, self._runtime.OrtValue.ortvalue_from_numpy(out))
        else:
            binding.bind_output(self._output, self._device if keep_on_device else "cpu")
        self._run_bound(binding, call)
        if out is not None:
            return out
        result = binding.get_outputs()[0]
        # On the CPU this is a view of the engine's fresh buffer: nothing is copied.
        if not keep_on_device or self._device == "cpu":
            return result.numpy()
        return result._ortvalue  # noqa: SLF001 # the library's own object, which has `__dlpack__`

    def step(
        self,
        inputs: Mapping[str, Any],
        *,
        call: CallScope,
        last: bool = False,
        out: NDArray[Any] | None = None,
        in_place: bool = False,
    ) -> dict[str, Any]:
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, self._to_value(array))
        results: dict[str, Any] = {}
        names = [output.name for output in self._session.get_outputs()]
        for name in names.copy():
            state = inputs.get(ports.state_of_next(name)) if ports.is_next_state(name) else None
            if state is not None and last:
                names.remove(name)
            elif state is not None and self._device == "cpu":
                results[name] = state if in_place else own_page_memory(state.shape, state.dtype)
            elif name == self._output and out is not None:
                results[name] = out
            else:
                binding.bind_output(name, "cpu" if name == self._output else self._device)
            if name in results:
                binding.bind_ortvalue_output(name, self._runtime.OrtValue.ortvalue_from_numpy(results[name]))
        self._run_bound(binding, call)
        values = dict(zip(names, binding.get_outputs(), strict=True)) | results
        if out is None:
            values[self._output] = values[self._output].numpy()
        return values

    def _run_bound(self, binding: Any, call: CallScope) -> None:
        options = self._runtime.RunOptions()
        options.log_severity_level = 4  # a cancelled run is no error, and an error raises
        call.check()
        if self._arena is not None:
            self._arena.free_for_call(call.peak_estimate_bytes)
        call.on_cancel(lambda: setattr(options, "terminate", True))
        try:
            self._session.run_with_iobinding(binding, options)
        except Exception as error:
            call.check()
            raise EngineError(f"ONNX Runtime failed while running: {_first_line(error)}") from error
        finally:
            call.on_cancel(None)

    def _to_value(self, array: Any) -> Any:
        if isinstance(array, self._runtime.OrtValue):
            return array
        if isinstance(array, np.ndarray):
            return self._runtime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
        return self._runtime.OrtValue.from_dlpack(array.__dlpack__())

    def _options(self, threads: int | None, chosen: OnnxRuntimeOptions) -> Any:
        options = self._runtime.SessionOptions()
        options.log_severity_level = 4  # errors raise, and the library would print them in colour as well
        # In the graph's own order states are cut out as soon as they are there. In the usual order they are cut out at
        # the end, and until then the input of every layer is held.
        options.execution_order = self._runtime.ExecutionOrder.PRIORITY_BASED
        # A memory pattern is laid out after the first call of a shape, as one block next to the arena's: the second
        # call of the shape then holds up to twice what the first one did (SD decoder, 1024x1024: 2.1 and 4.3 GiB).
        options.enable_mem_pattern = False
        most = engine_threads(threads)
        if most is not None:
            options.intra_op_num_threads = most
        chosen.set_on(options)
        return options


def _providers(chain: Sequence[str], cache: Path | None) -> list[tuple[str, dict[str, str]]]:
    """The chain with the settings of each provider, and the CPU's provider at its end. CUDA's would compute float32 in
    TF32. TensorRT's keeps its engines in `cache`."""
    settings = {PROVIDERS["cuda"]: {"use_tf32": "0"}}
    if cache is not None:
        kept = ("trt_engine_cache", "trt_timing_cache")
        settings[PROVIDERS["tensorrt"]] = dict.fromkeys((f"{name}_enable" for name in kept), "1")
        settings[PROVIDERS["tensorrt"]] |= dict.fromkeys((f"{name}_path" for name in kept), str(cache))
    return [(name, settings.get(name, {})) for name in dict.fromkeys([*chain, PROVIDERS["cpu"]])]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
