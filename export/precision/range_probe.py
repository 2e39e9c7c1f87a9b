"""A graph whose outputs are the largest magnitude of each of its tensors: no tensor outlives the nodes that read it."""

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
_REDUCTIONS = ("ReduceMax", "ReduceMin")  # together |x| at its largest, without the copy that an Abs would make


class RangeProbe:
    """A float32 graph of a bundle, opened to measure its tensors. It is a context manager: it holds the weights.

    Attributes:
        names: every float tensor of the graph, in the order in which it is computed.
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
        """The name and the largest magnitude of every tensor for one input; NaN where a tensor holds NaN.

        Raises:
            EngineError: there is not enough memory.
        """
        options = self._runtime.RunOptions()
        options.log_severity_level = 4  # a failed run raises, and need not log as well
        sizes = ", ".join("x".join(map(str, array.shape)) for array in feed.values())
        with memory_errors(f"the range check of {self._graph} at {sizes}"):
            if self._arena is not None:
                self._arena.free_for_call(self.held_bytes(feed))
            values = np.abs(np.asarray(self._session.run(None, dict(feed), options), np.float32))
        return zip(self.names, map(float, np.maximum(values[0::2], values[1::2])), strict=True)

    def held_bytes(self, feed: Feed) -> int:
        """The least memory that a run takes: the tensors that are alive at one time, at most. 0 if it is not known."""
        return held_bytes(self._plain, {name: array.shape for name, array in feed.items()})


def with_reductions(model: ModelProto) -> tuple[ModelProto, list[str]]:
    """The model with the maximum and the minimum of each float tensor as its outputs, and the names of the tensors.

    Each reduction stands directly behind the node that makes its tensor. With the execution order that `_options`
    sets, ONNX Runtime runs nodes in the order of the file as far as it can, so the tensor is free after its last
    reader. Behind the whole graph, the reductions would keep every tensor alive.
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
    """The largest sum of the tensors that are alive at one node, if the nodes run in their order; without weights.

    Returns 0 if ONNX cannot tell the shape of a tensor.
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
    # A memory pattern is one more block, as large as the arena's, from the second run of a shape on.
    options.enable_mem_pattern = False
    if arena is not None:
        # The encoder that gives the decoder its latents computes there too. With an arena of the session's own, the
        # export at SDXL's width held 1.7 to 2.0 GiB for a picture of 451x300, and 1.5 with this one.
        arena.use_for(options)
    return options
