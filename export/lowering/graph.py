"""Builds an ONNX graph node by node: names, constants, external weights and shared shape arithmetic.

This module uses ONNX and no PyTorch. `lower.py` chooses the nodes of an operation, and `trace.py` walks a model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..weights.safetensors_file import StoredTensor

__all__ = ["ELEMENT_TYPES", "GraphBuilder", "TensorSpec"]

_IR_VERSION = 9  # the last version of opsets 18 and 19, so that old runtimes read it too


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph.

    Attributes:
        name: its name.
        dtype: "float32" or "int64".
        shape: for each axis its size, or its name if the size is dynamic.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def to_proto(self) -> onnx.ValueInfoProto:
        """Return the ONNX description of this input or output."""
        return helper.make_tensor_value_info(self.name, ELEMENT_TYPES[self.dtype], list(self.shape))


class GraphBuilder:
    """Collects nodes; `finish` makes the model.

    Values are names (`str`). Equal constants and equal nodes of shape arithmetic are added once.

    Args:
        opset: ONNX opset of the model.
        weights: place of each weight, by its name.
        float_dtype: dtype of floating-point constants.
        for_cpu: True for the form that ONNX Runtime runs faster on a CPU (`planar.py`, `phases.py`).

    Attributes:
        scope: prefix of the names of new nodes; the path of the layer.
    """

    def __init__(
        self,
        *,
        opset: int,
        weights: Mapping[str, StoredTensor],
        float_dtype: str = "float32",
        for_cpu: bool = False,
    ) -> None:
        self.opset = opset
        self.float_dtype = float_dtype
        self.for_cpu = for_cpu
        self.scope = ""
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._shared: dict[tuple[Any, ...], str] = {}
        self._names: dict[str, int] = {}

    def node(self, operator: str, *inputs: str, name: str | None = None, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node.

        Args:
            operator: ONNX operator.
            inputs: names of the inputs; "" leaves out an optional input.
            name: name of the node; by default the scope and the operator.
            outputs: number of outputs.
            attributes: attributes of the operator; those that are None are left out.

        Returns:
            The name of the output, or a tuple of names if `outputs` is more than one.
        """
        base = self.unique(name or f"{self.scope}/{operator}" if self.scope else name or operator)
        results = [base] if outputs == 1 else [f"{base}_{index}" for index in range(outputs)]
        attributes = {key: value for key, value in attributes.items() if value is not None}
        self._nodes.append(helper.make_node(operator, list(inputs), results, name=base, **attributes))
        return results[0] if outputs == 1 else tuple(results)

    def shared_node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, or return the output of the same operation on the same inputs."""
        key = (operator, inputs, tuple(sorted(attributes.items())))
        if key not in self._shared:
            self._shared[key] = self.node(operator, *inputs, **attributes)
        return self._shared[key]

    def constant(self, values: Any, dtype: str | None = None) -> str:
        """Return the name of a small constant that is stored in the graph file."""
        array = np.asarray(values, dtype=dtype or self.float_dtype)
        key = ("constant", array.dtype.str, array.shape, array.tobytes())
        if key not in self._shared:
            name = self.unique("constant")
            self._initializers[name] = numpy_helper.from_array(array, name)
            self._shared[key] = name
        return self._shared[key]

    def weight(self, name: str, shape: Sequence[int] | None = None) -> str:
        """Return the name of a tensor of the weights file.

        Args:
            name: name of the tensor in the weights file.
            shape: another shape with the same number of elements. The data are not copied.
        """
        stored = self._weights[name]
        shape = stored.shape if shape is None else tuple(shape)
        label = name if shape == stored.shape else f"{name}:{'x'.join(map(str, shape))}"
        if label not in self._initializers:
            proto = TensorProto(name=label, data_type=ELEMENT_TYPES[stored.dtype], dims=shape)
            stored.point(proto)
            self._initializers[label] = proto
        return label

    def weight_shape(self, name: str) -> tuple[int, ...]:
        """Return the stored shape of a weight."""
        return self._weights[name].shape

    def has_weight(self, name: str) -> bool:
        """Return True if the weights file has a tensor of this name."""
        return name in self._weights

    def unique(self, name: str) -> str:
        """Return `name`, with a number appended if the name is taken."""
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        return name if count == 0 else self.unique(f"{name}_{count}")

    def subgraph(self, nodes_from: int, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.GraphProto:
        """Move nodes into the body graph of a Scan.

        Args:
            nodes_from: number of nodes before the first node of the body.
            name: name of the body graph.
            inputs: names of its inputs; shapes are inferred.
            outputs: names of its outputs; shapes are inferred.
        """
        body, self._nodes = self._nodes[nodes_from:], self._nodes[:nodes_from]
        element = ELEMENT_TYPES[self.float_dtype]
        return helper.make_graph(
            body,
            name,
            [helper.make_tensor_value_info(value, element, None) for value in inputs],
            [helper.make_tensor_value_info(value, element, None) for value in outputs],
        )

    def rename_output(self, old: str, new: str) -> None:
        """Rename the value `old` to the graph output `new`. A weight or an input gets an Identity node instead."""
        for node in self._nodes:
            if old in node.output:
                node.output[list(node.output).index(old)] = new
                readers = [reader for reader in self._nodes if old in reader.input]
                for reader in readers:
                    reader.input[:] = [new if name == old else name for name in reader.input]
                return
        self._nodes.append(helper.make_node("Identity", [old], [new], name=self.unique("Identity")))

    @property
    def node_count(self) -> int:
        """Number of nodes so far."""
        return len(self._nodes)

    def finish(self, name: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> onnx.ModelProto:
        """Return the model, without the nodes and constants that no output needs."""
        nodes, used = self._needed({spec.name for spec in outputs})
        graph = helper.make_graph(
            nodes,
            name,
            [spec.to_proto() for spec in inputs],
            [spec.to_proto() for spec in outputs],
            initializer=[proto for label, proto in self._initializers.items() if label in used],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="latentrt")

    def _needed(self, wanted: set[str]) -> tuple[list[onnx.NodeProto], set[str]]:
        kept: list[onnx.NodeProto] = []
        for node in reversed(self._nodes):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted |= _reads(node)
        return kept[::-1], wanted


def _reads(node: onnx.NodeProto) -> set[str]:
    names = set(node.input)
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            for inner in attribute.g.node:
                names |= _reads(inner)
    return names


# dtype -> ONNX element type.
ELEMENT_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int64": TensorProto.INT64,
}
