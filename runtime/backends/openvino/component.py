"""OpenVINO on the CPU, in float32 and bfloat16: one graph, ready to run."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundle import ports
from ...errors import BackendUnavailable, EngineError
from ...system.forked_process import keep_in_forked_child
from ...system.page_memory import own_page_memory
from ..component import CallScope, ComponentCapabilities
from .compiler import PRECISIONS, GraphCompiler, library, missing_openvino, reason_of
from .models import Models
from .shared_model import SharedModel, WorkingMemory

__all__ = ["PRECISIONS", "OpenVinoComponent", "missing_openvino"]


class OpenVinoComponent:
    """One graph, compiled for every size, and again for the sizes of calls that are specialised. If it knows the sizes,
    OpenVINO fuses more and packs the weights beforehand, and convolutions get fewer multiplications where that pays
    (`models.py`, `winograd.py`, benchmarks/profile.md).

    Args:
        graph: the ONNX file.
        dtype: the precision of the computation.
        threads: the number of threads that one engine call may use. None: one for each core that may be used.
        key: a name for what the graph and its weights hold. The compiled model is kept in the cache folder under it.
            Without a key it is not kept.
        files: the SHA-256 of the graph and its weights, which must not change.
        memory: the memory that it shares with the other stages of a stream.

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
        memory: WorkingMemory | None = None,
    ) -> None:
        reason = missing_openvino(dtype)
        if reason is not None:
            raise BackendUnavailable(f"backend openvino cannot run: {reason}")
        self._library, self._graph = library(), graph
        self._compiler = GraphCompiler(graph, dtype=dtype, threads=threads, key=key, files=files)
        # The models hold the compiler, not the component: in a circle they would live, with their threads, until
        # Python's collector of garbage runs.
        compiler = self._compiler
        self.models = Models(compiler.compile, lambda: compiler.weights_bytes)
        self._memory = memory or WorkingMemory()
        keep_in_forked_child(self)

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

        def find() -> SharedModel:
            model = self.models.of_step(inputs, call)
            if ports.CHUNK in inputs:
                self._memory.begin(model, anew=last)
            return model

        results = self._run(find, inputs, ours, call)
        if last and ports.CHUNK in inputs:
            self._memory.end()
        return results

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
        names = self._compiler.output_names
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
            raise EngineError(f"OpenVINO failed while running: {reason_of(error)}") from error
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

        return [tensor(name, port) for name, port in zip(self._compiler.output_names, model.outputs, strict=True)]


def _end(request: Any) -> None:
    """Stop a request and wait for its end, also if it fails."""
    with contextlib.suppress(Exception):
        request.cancel()
        request.wait()
