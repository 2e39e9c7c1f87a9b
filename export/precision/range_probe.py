"""Measures the largest magnitude of each tensor of a graph, without keeping a tensor longer than its readers."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from ...runtime.backends.onnxruntime.arena import Arena
from ...runtime.backends.onnxruntime.component import shared_arena
from ...runtime.extras import require
from ..memory_errors import memory_errors
from .precision import plan_precision

__all__ = ["RangeProbe", "with_reductions"]

Feed = Mapping[str, NDArray[np.float32]]
# Together they give the largest |x|, without the copy that an Abs would make.
_REDUCTIONS = ("ReduceMax", "ReduceMin")


class RangeProbe:
    """A float32 graph of a bundle, opened to measure its tensors. A context manager, since it holds the weights.

    Attributes:
        names: the float tensors of the graph, in the order in which they are computed.
        narrowed: the tensors that a float16 graph holds in float16 by default.
    """

    def __init__(self, path: Path) -> None:
        self._graph = path.name
        self._runtime = require("onnxruntime", extra="cpu")
        self._arena = shared_arena("cpu")
        self._plain = onnx.load(str(path), load_external_data=False)
        high = plan_precision(self._plain, "float16").float32_nodes
        low = [node for node in self._plain.graph.node if node.name not in high]
        self.narrowed = frozenset(name for node in low for name in (*node.input, *node.output))
        model, self.names = with_reductions(self._plain)
        probe = path.with_name(f"{path.stem}.probe.onnx")  # next to the weights that it reads
        probe.write_bytes(model.SerializeToString())
        try:
            with memory_errors(f"opening {self._graph} for the range check"):
                self._session = self._runtime.InferenceSession(
                    str(probe), _options(self._runtime, self._arena), providers=["CPUExecutionProvider"]
                )
        finally:
            probe.unlink()

    def __enter__(self) -> "RangeProbe":
        return self

    def __exit__(self, *_: object) -> None:
        del self._session

    def run(self, feed: Feed) -> Iterator[tuple[str, float]]:
        """Run the graph, and yield the name and the largest magnitude of each tensor; NaN if a tensor holds NaN.

        Args:
            feed: array of each input, by its name.

        Raises:
            EngineError: there is not enough memory.
        """
        options = self._runtime.RunOptions()
        options.log_severity_level = 4  # a failed run raises, so it need not log
        sizes = ", ".join(str(array.shape) for array in feed.values())
        with memory_errors(f"the range check of {self._graph} at {sizes}"):
            if self._arena is not None:
                self._arena.free_for_call(self.held_bytes(feed))
            values = np.abs(np.asarray(self._session.run(None, dict(feed), options), np.float32))
        return zip(self.names, map(float, np.maximum(values[0::2], values[1::2])), strict=True)

    def held_bytes(self, feed: Feed) -> int:
        """Return the least memory that a run takes, in bytes: the largest sum of live tensors. 0 if it is unknown."""
        return held_bytes(self._plain, {name: array.shape for name, array in feed.items()})


def with_reductions(model: ModelProto) -> tuple[ModelProto, list[str]]:
    """Return the model with the maximum and the minimum of each float tensor as its outputs, and the tensors' names.

    Each reduction stands directly behind the node that makes its tensor. With the execution order that `_options`
    sets, ONNX Runtime runs nodes in the order of the file as far as it can, so a tensor is freed after its last
    reader. If the reductions stood behind the whole graph, they would keep every tensor alive.
    """
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    probe = ModelProto()
    probe.CopyFrom(model)
    nodes: list[NodeProto] = []
    names: list[str] = []
    del probe.graph.output[:]

    def reduce(name: str) -> None:
        if name not in floats:
            return
        names.append(name)
        for operator in _REDUCTIONS:
            result = f"{name}:{operator}"
            nodes.append(helper.make_node(operator, [name], [result], name=result, keepdims=0))
            probe.graph.output.append(helper.make_tensor_value_info(result, TensorProto.FLOAT, []))

    for value in model.graph.input:
        reduce(value.name)
    for node in model.graph.node:
        nodes.append(node)
        for name in node.output:
            reduce(name)
    del probe.graph.node[:]
    probe.graph.node.extend(nodes)
    return probe, names


def held_bytes(model: ModelProto, shapes: Mapping[str, Sequence[int]]) -> int:
    """Return the largest sum of live tensors at any node, in bytes, without weights. The nodes run in their order.

    Returns 0 if ONNX cannot infer the shape of a tensor.
    """
    sized = ModelProto()
    sized.CopyFrom(model)
    for value in sized.graph.input:
        for axis, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            axis.dim_value = size
    for value in sized.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
    sizes: dict[str, int] = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        axes = value.type.tensor_type.shape.dim
        if any(not axis.HasField("dim_value") for axis in axes):
            return 0
        sizes[value.name] = math.prod(axis.dim_value for axis in axes) * 4
    last = {name: index for index, node in enumerate(model.graph.node) for name in node.input}
    held = sum(sizes[value.name] for value in model.graph.input)
    most = held
    for index, node in enumerate(model.graph.node):
        held += sum(sizes.get(name, 0) for name in node.output)
        most = max(most, held)
        ending = {name for name in (*node.input, *node.output) if last.get(name, index) == index}
        held -= sum(sizes.get(name, 0) for name in ending)
    return most


def _options(runtime: Any, arena: Arena | None) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.execution_order = runtime.ExecutionOrder.PRIORITY_BASED
    # From the second run of a shape on, a memory pattern would hold another block as large as the arena's.
    options.enable_mem_pattern = False
    if arena is not None:
        # The encoder that computes the latents for the decoder uses the same arena. With an arena per session, the
        # export at SDXL's width held 1.7 to 2.0 GiB for a picture of 451x300; with a shared arena it held 1.5 GiB.
        arena.use_for(options)
    return options
