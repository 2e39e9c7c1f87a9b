"""A float32 graph in float16 or bfloat16, strongly typed: every cast is written out, nothing is left to the engine.

Islands stay in float32, where range or rounding needs it: means with what subtracts them or scales by them, softmax,
squares, the angles of timestep embeddings, and every tensor that a range check found too large (`keep`). In float16 a
pixel norm's square overflows above |x| = 255, and the norm then gives 0 without a NaN to tell. Inputs and outputs of
the graph are float32, so that whoever feeds it needs no bfloat16.

Works on the finished ONNX graph, not within the lowering: one place decides precision for every operation, by rules
that name operators, and the names of a range check's table are those of the float32 graph.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .graph import ELEMENT_TYPES
from .narrowing import narrowed
from .safetensors_file import StoredTensor

__all__ = ["LOW_PRECISIONS", "PrecisionPlan", "apply_precision", "opset_for", "plan_precision"]

LOW_PRECISIONS = ("float16", "bfloat16")
_OPSETS = {"float32": 18, "float16": 18, "bfloat16": 22}  # the first with a bfloat16 Conv
_IR_VERSIONS = {18: 9, 22: 10}
_STATISTICS = {"LayerNormalization", "ReduceMean", "Softmax", "Softplus", "Sqrt"}
_ANGLES = {"Cos", "Sin"}


@dataclass(frozen=True)
class PrecisionPlan:
    """Which nodes compute in float32, by name, and which weights they read, by their name in the weights file."""

    dtype: str
    float32_nodes: frozenset[str]
    float32_weights: frozenset[str]


def opset_for(dtype: str) -> int:
    """ONNX's Conv takes bfloat16 from opset 22; the other precisions stay where every provider has kernels."""
    return _OPSETS[dtype]


def plan_precision(model: ModelProto, dtype: str, keep: Collection[str] = ()) -> PrecisionPlan:
    """Decide for each node of a float32 graph. `keep` are tensors that `dtype` cannot hold: the nodes that make or
    read one stay in float32."""
    sizes = _sizes(model.graph)
    nodes = [node for node in _every_node(model.graph) if node.output[0] not in sizes]
    constants = {tensor.name for tensor in model.graph.initializer}
    readers: dict[str, list[NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    makers = {output: node for node in nodes for output in node.output}
    inputs = {value.name for value in model.graph.input}
    high = {node.name for node in nodes if _needs_float32(node, dtype, constants)}
    high |= {node.name for node in nodes if not set(keep).isdisjoint([*node.input, *node.output])}
    high |= _ancestors((node for node in nodes if node.op_type in _ANGLES), makers)
    means = _made_of_means(nodes, constants | sizes)
    high |= {node.name for node in nodes if not means.isdisjoint(node.input)}

    def made_high(name: str) -> bool:
        return name in inputs or (name in makers and makers[name].name in high)

    changed = True
    while changed:
        changed = False
        for node in nodes:
            data = [name for name in node.input if name and name not in constants and name not in sizes]
            if node.name in high or not data or not all(map(made_high, data)):
                continue
            after = [reader.name in high for output in node.output for reader in readers.get(output, ())]
            if after and all(after):
                high.add(node.name)
                changed = True
    reads = {name.partition(":")[0] for node in nodes if node.name in high for name in node.input if name in constants}
    return PrecisionPlan(dtype, frozenset(high), frozenset(reads))


def apply_precision(model: ModelProto, plan: PrecisionPlan, weights: Mapping[str, StoredTensor]) -> ModelProto:
    """The graph of `plan`, its weights read where `weights` says (float32 those that the plan names, else low)."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    top = _Typed(plan, weights, constants, dict.fromkeys(_sizes(model.graph), "int64"))
    result = ModelProto()
    result.CopyFrom(model)
    opset = opset_for(plan.dtype)
    result.opset_import[0].version = opset
    result.ir_version = _IR_VERSIONS[opset]
    result.graph.CopyFrom(top.graph(model.graph, outputs="float32"))
    return result


def _needs_float32(node: NodeProto, dtype: str, constants: Collection[str]) -> bool:
    if node.op_type in _STATISTICS:
        return True
    if node.op_type == "Mul":
        return bool(node.input[0] == node.input[1])
    if node.op_type == "Div":
        return node.input[1] not in constants
    return node.op_type == "Resize" and dtype == "bfloat16"  # TensorRT resizes no bfloat16


def _made_of_means(nodes: Iterable[NodeProto], fixed: Collection[str]) -> set[str]:
    """Means, and what is computed of them and constants alone: what a norm subtracts, and scales and shifts by."""
    found: set[str] = set()
    for node in nodes:
        data = [name for name in node.input if name and name not in fixed]
        if node.op_type == "ReduceMean" or (data and found.issuperset(data)):
            found.update(node.output)
    return found


def _ancestors(nodes: Iterable[NodeProto], makers: Mapping[str, NodeProto]) -> set[str]:
    found: dict[str, NodeProto] = {}
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node.name not in found:
            found[node.name] = node
            waiting += [makers[name] for name in node.input if name in makers]
    return set(found)


def _every_node(graph: GraphProto) -> Iterable[NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _every_node(attribute.g)


def _sizes(graph: GraphProto) -> set[str]:
    """The int64 values: shapes, and what is computed from them."""
    found = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.INT64}
    for node in _every_node(graph):
        if node.op_type == "Shape" or node.input[0] in found:
            found.update(node.output)
    return found


@dataclass
class _Typed:
    """Writes one graph (or a body within it) with casts. `types` holds the dtype of every tensor seen so far, and from
    the start those that are "int64"; `casts` the name that a tensor has in another dtype within this graph."""

    plan: PrecisionPlan
    weights: Mapping[str, StoredTensor]
    constants: Mapping[str, TensorProto]
    types: dict[str, str] = field(default_factory=dict)
    casts: dict[tuple[str, str], str] = field(default_factory=dict)
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: dict[str, TensorProto] = field(default_factory=dict)

    def graph(self, graph: GraphProto, *, outputs: str) -> GraphProto:
        """`graph`, typed; its inputs and outputs are of the dtype `outputs`."""
        result = GraphProto()
        result.CopyFrom(graph)
        wanted = {value.name for value in graph.output}
        for value in (*result.input, *result.output):
            if value.type.tensor_type.elem_type == TensorProto.FLOAT:
                value.type.tensor_type.elem_type = ELEMENT_TYPES[outputs]
        self.types |= {value.name: outputs for value in result.input}
        for node in graph.node:
            self._node(node, wanted, outputs)
        del result.node[:]
        del result.initializer[:]
        result.node.extend(self.nodes)
        result.initializer.extend(self.initializers.values())
        return result

    def _node(self, node: NodeProto, wanted: set[str], outputs: str) -> None:
        copy = NodeProto()
        copy.CopyFrom(node)
        kind = self.types.get(node.output[0]) or self._dtype(node)
        for position, name in enumerate(node.input):
            fixed = node.op_type == "Resize" and position > 0  # its scales are float32 whatever it resizes
            if name and kind != "int64" and self.types.get(name) != "int64":
                copy.input[position] = self._as(name, "float32" if fixed else kind)
            elif name in self.constants:
                self.initializers[name] = self.constants[name]
        for attribute in copy.attribute:
            if attribute.type == AttributeProto.GRAPH:
                # A body's casts are its own; what it sees from outside it casts within.
                body = _Typed(self.plan, self.weights, self.constants, dict(self.types))
                attribute.g.CopyFrom(body.graph(attribute.g, outputs=self._dtype(node)))
                self.initializers |= body.initializers
                del attribute.g.initializer[:]
        self.nodes.append(copy)
        for position, name in enumerate(node.output):
            self.types[name] = kind
            if name in wanted and kind not in ("int64", outputs):
                inner = copy.output[position] = f"{name}:{kind}"
                self.nodes.append(_cast(inner, name, outputs))
                self.types[name] = outputs

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
        if (name, dtype) not in self.casts:  # read in both precisions: stored in the wider one
            self.casts[name, dtype] = f"{name}:{dtype}"
            self.nodes.append(_cast(name, f"{name}:{dtype}", dtype))
        return self.casts[name, dtype]


def _cast(source: str, target: str, dtype: str) -> NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}/Cast", to=ELEMENT_TYPES[dtype])
