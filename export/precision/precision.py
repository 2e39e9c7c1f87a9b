"""Which parts of a graph compute in float16 or bfloat16, and which stay in float32.

Islands stay in float32, where range or rounding needs it: means with what subtracts them or scales by them, softmax,
squares, the angles of timestep embeddings, and every tensor that a range check found too large (`keep`). In float16 a
pixel norm's square overflows above |x| = 255, and the norm then gives 0 without a NaN to tell. Inputs and outputs of
the graph are float32, so that whoever feeds it needs no bfloat16; only a stream's states, which come back as they went,
are float16 where what they remember is. Parts of a model, for streams and exact strips, agree with the whole on what
stays in float32 through the weights that they share.

Works on the finished ONNX graph, not within the lowering: one place decides precision for every operation, by rules
that name operators, and the names of a range check's table are those of the float32 graph.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from ...runtime.bundle import ports

__all__ = ["LOW_PRECISIONS", "PrecisionPlan", "opset_for", "plan_precision"]

LOW_PRECISIONS = ("float16", "bfloat16")
_OPSETS = {"float32": 18, "float16": 18, "bfloat16": 22}  # the first with a bfloat16 Conv
_MOVES = {"Concat", "Gather", "Pad", "Reshape", "Resize", "Slice", "Split", "Transpose"}
_PRODUCTS = {"Conv", "MatMul", "Scan"}
_STATISTICS = {"LayerNormalization", "ReduceMean", "Softmax", "Softplus", "Sqrt"}
_GIVEN_STATISTICS = {ports.MEAN, ports.VARIANCE}  # Of the whole picture: inputs of a stage of strips.
_ANGLES = {"Cos", "Sin"}


@dataclass(frozen=True)
class PrecisionPlan:
    """Which nodes compute in float32, by name, and which weights they read, by their name in the weights file. `sizes`:
    the values that are whole numbers. `low_ports`: the graph's inputs and outputs that are of `dtype`."""

    dtype: str
    float32_nodes: frozenset[str]
    float32_weights: frozenset[str]
    sizes: frozenset[str]
    low_ports: frozenset[str]


def opset_for(dtype: str) -> int:
    """ONNX's Conv takes bfloat16 from opset 22; the other precisions stay where every provider has kernels."""
    return _OPSETS[dtype]


def plan_precision(
    model: ModelProto, dtype: str, keep: Collection[str] = (), wide: Collection[str] = ()
) -> PrecisionPlan:
    """Decide for each node of a float32 graph. `keep` are tensors that `dtype` cannot hold: the nodes that make or
    read one stay in float32. `wide` are weights that are stored in float32: what reads one computes in it. Sums that
    leave the graph, which is where what adds up over many layers shows, are not rounded on the way."""
    sizes = _sizes(model.graph)
    nodes = [node for node in _every_node(model.graph) if node.output[0] not in sizes]
    constants = {tensor.name for tensor in model.graph.initializer}
    weights = {
        tensor.name: tensor.name.partition(":")[0]  # one may be seen with another shape
        for tensor in model.graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
    }
    makers = {output: node for node in nodes for output in node.output}
    inputs, outputs = ({value.name for value in side} for side in (model.graph.input, model.graph.output))
    high = {node.name for node in nodes if _needs_float32(node, dtype, constants)}
    kept = _kept(nodes, keep, inputs)
    high |= {node.name for node in nodes if not kept.isdisjoint([*node.input, *node.output])}
    high |= {node.name for node in nodes if any(weights.get(name) in wide for name in node.input)}
    high |= _ancestors((node for node in nodes if node.op_type in _ANGLES), makers)
    means = _made_of_means(nodes, constants | sizes, inputs)
    high |= {node.name for node in nodes if not means.isdisjoint(node.input)}
    sums = (node for node in nodes if node.op_type == "Add" and constants.isdisjoint(node.input))
    high |= {node.name for node in sums if not outputs.isdisjoint(node.output)}
    states = {name for name in inputs if ports.is_state(name)}
    while True:
        high |= _between(nodes, high, inputs - states, constants | sizes)
        wider = {name for name in states if makers[ports.next_state(name)].name in high}
        if not wider:
            break
        states -= wider
    reads = {weights[name] for node in nodes if node.name in high for name in node.input if name in weights}
    # Whoever feeds the graph has no bfloat16.
    low = {port for name in states for port in (name, ports.next_state(name))} if dtype == "float16" else set()
    return PrecisionPlan(dtype, frozenset(high), frozenset(reads), frozenset(sizes), frozenset(low))


def _kept(nodes: Sequence[NodeProto], keep: Collection[str], inputs: Collection[str]) -> set[str]:
    """The tensors of `keep`, by their own name or that of the node that makes them (a graph's outputs have others), and
    what only moves their values, from one step of a stream to the next too."""
    found = set(keep) | {name for node in nodes if node.name in keep for name in node.output}
    before = -1
    while before != len(found):
        before = len(found)
        for node in nodes:
            if node.op_type in _MOVES and not found.isdisjoint(node.input):
                found.update(node.output)
        found |= {name for name in inputs if ports.next_state(name) in found}
    return found


def _between(
    nodes: Sequence[NodeProto], high: Collection[str], inputs: Collection[str], fixed: Collection[str]
) -> set[str]:
    """What comes from float32 alone and goes to float32 alone, by name: low precision would only lose digits there.
    (Products are not looked at: between a graph's inputs and its outputs that would be everything.)"""
    found = set(high) | {node.name for node in nodes if node.op_type not in _PRODUCTS}
    makers = {output: node.name for node in nodes for output in node.output}
    before = -1
    while before != len(found):
        before = len(found)
        for node in nodes:
            data = [name for name in node.input if name and name not in fixed]
            if node.name not in high and not all(name in inputs or makers.get(name) in found for name in data):
                found.discard(node.name)
        for node in reversed(nodes):
            if node.name not in found:
                found -= {makers.get(name, "") for name in node.input}.difference(high)
    return found


def _needs_float32(node: NodeProto, dtype: str, constants: Collection[str]) -> bool:
    if node.op_type in _STATISTICS:
        return True
    if node.op_type == "Mul":
        return bool(node.input[0] == node.input[1])
    if node.op_type == "Div":
        return node.input[1] not in constants
    return node.op_type == "Resize" and dtype == "bfloat16"  # TensorRT resizes no bfloat16


def _made_of_means(nodes: Iterable[NodeProto], fixed: Collection[str], inputs: Collection[str]) -> set[str]:
    """Means, and what is computed of them and constants alone: what a norm subtracts, and scales and shifts by."""
    found = _GIVEN_STATISTICS.intersection(inputs)
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
    """The int64 values: shapes, inputs that decide sizes, and what is computed from them."""
    found = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.INT64}
    found |= {value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.INT64}
    for node in _every_node(graph):
        if node.op_type == "Shape" or node.input[0] in found:
            found.update(node.output)
    return found
