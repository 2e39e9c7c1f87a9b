"""Rewrites a float32 graph with the precision that a plan gives each node. All casts are explicit nodes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ..lowering.graph import ELEMENT_TYPES
from ..precision.precision import PrecisionPlan, opset_for
from ..weights.narrowing import narrowed
from ..weights.safetensors_file import StoredTensor

__all__ = ["apply_precision"]

_IR_VERSIONS = {18: 9, 22: 10}  # ONNX IR version of each opset


def apply_precision(model: ModelProto, plan: PrecisionPlan, weights: Mapping[str, StoredTensor]) -> ModelProto:
    """Return a float32 model rewritten to the precisions of a plan.

    Args:
        model: the float32 model.
        plan: the precision of each node.
        weights: place and dtype of each weight: float32 for the weights that the plan names, else the plan's dtype.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    top = _Typed(plan, weights, constants, dict.fromkeys(plan.sizes, "int64"))
    result = ModelProto()
    result.CopyFrom(model)
    opset = opset_for(plan.dtype)
    result.opset_import[0].version = opset
    result.ir_version = _IR_VERSIONS[opset]
    result.graph.CopyFrom(top.graph(model.graph, outputs="float32"))
    return result


@dataclass
class _Typed:
    """Writes one graph, or the body of a node within it, with casts.

    Attributes:
        plan: the precision of each node.
        weights: place and dtype of each weight.
        constants: initializers of the float32 model, by name.
        types: dtype of each tensor so far; from the start, the tensors of whole numbers ("int64").
        casts: (tensor, dtype) -> name of the tensor in that dtype within this graph.
        nodes: the nodes so far.
        initializers: the initializers so far, by name.
    """

    plan: PrecisionPlan
    weights: Mapping[str, StoredTensor]
    constants: Mapping[str, TensorProto]
    types: dict[str, str] = field(default_factory=dict)
    casts: dict[tuple[str, str], str] = field(default_factory=dict)
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: dict[str, TensorProto] = field(default_factory=dict)

    def graph(self, graph: GraphProto, *, outputs: str) -> GraphProto:
        """Return a graph with casts. Its inputs and outputs have the dtype `outputs`, unless the plan differs."""
        result = GraphProto()
        result.CopyFrom(graph)
        wanted = {value.name: self._port(value.name, outputs) for value in result.output}
        self.types |= {value.name: self._port(value.name, outputs) for value in result.input}
        for value in (*result.input, *result.output):
            if value.type.tensor_type.elem_type == TensorProto.FLOAT:
                value.type.tensor_type.elem_type = ELEMENT_TYPES[self._port(value.name, outputs)]
        for node in graph.node:
            self._node(node, wanted)
        del result.node[:]
        del result.initializer[:]
        result.node.extend(self.nodes)
        result.initializer.extend(self.initializers.values())
        return result

    def _port(self, name: str, others: str) -> str:
        """Return the dtype of an input or output; `others` is the default."""
        return self.plan.dtype if name in self.plan.low_ports else self.types.get(name, others)

    def _node(self, node: NodeProto, wanted: Mapping[str, str]) -> None:
        copy = NodeProto()
        copy.CopyFrom(node)
        kind = self.types.get(node.output[0]) or self._dtype(node)
        for position, name in enumerate(node.input):
            fixed = node.op_type == "Resize" and position > 0  # the scales are float32 in every precision
            if name and kind != "int64" and self.types.get(name) != "int64":
                copy.input[position] = self._as(name, "float32" if fixed else kind)
            elif name in self.constants:
                self.initializers[name] = self.constants[name]
        for attribute in copy.attribute:
            if attribute.type == AttributeProto.GRAPH:
                # A body has casts of its own, for the tensors of the outer graph too.
                body = _Typed(self.plan, self.weights, self.constants, dict(self.types))
                attribute.g.CopyFrom(body.graph(attribute.g, outputs=self._dtype(node)))
                self.initializers |= body.initializers
                del attribute.g.initializer[:]
        self.nodes.append(copy)
        for position, name in enumerate(node.output):
            self.types[name] = kind
            if name in wanted and kind not in ("int64", wanted[name]):
                inner = copy.output[position] = f"{name}:{kind}"
                self.nodes.append(_cast(inner, name, wanted[name]))
                self.types[name] = wanted[name]

    def _dtype(self, node: NodeProto) -> str:
        return "float32" if node.name in self.plan.float32_nodes else self.plan.dtype

    def _as(self, name: str, dtype: str) -> str:
        if name in self.constants:
            return self._constant(name, dtype)
        if self.types[name] == dtype:
            return name
        if (name, dtype) not in self.casts:
            self.casts[name, dtype] = f"{name}:{dtype}"
            self.nodes.append(_cast(name, f"{name}:{dtype}", dtype))
        return self.casts[name, dtype]

    def _constant(self, name: str, dtype: str) -> str:
        proto = self.constants[name]
        if proto.data_location == TensorProto.EXTERNAL:
            return self._weight(name, dtype)
        label = name if dtype == "float32" else f"{name}:{dtype}"
        if label not in self.initializers:
            raw = narrowed(numpy_helper.to_array(proto), dtype, label).tobytes()
            self.initializers[label] = helper.make_tensor(label, ELEMENT_TYPES[dtype], proto.dims, raw, raw=True)
        return label

    def _weight(self, name: str, dtype: str) -> str:
        stored = self.weights[name.partition(":")[0]]
        if name not in self.initializers:
            proto = TensorProto(name=name, data_type=ELEMENT_TYPES[stored.dtype], dims=self.constants[name].dims)
            stored.point(proto)
            self.initializers[name] = proto
        if stored.dtype == dtype:
            return name
        if (name, dtype) not in self.casts:  # a weight that nodes of both precisions read is stored in the wider one
            self.casts[name, dtype] = f"{name}:{dtype}"
            self.nodes.append(_cast(name, f"{name}:{dtype}", dtype))
        return self.casts[name, dtype]


def _cast(source: str, target: str, dtype: str) -> NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}/Cast", to=ELEMENT_TYPES[dtype])
