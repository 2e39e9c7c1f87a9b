"""Decides which nodes of a graph compute in float16 or bfloat16, and which stay in float32.

These nodes stay in float32, since they need its range or its digits: means, the nodes that subtract a mean or scale by
one, softmax, squares, the angles of timestep embeddings, and all nodes that make or read a tensor that a range check
found too large (`keep`). In float16 the square in a pixel norm overflows above |x| = 255, and the norm then returns 0
and no NaN.

The inputs and outputs of a graph are float32, since NumPy has no bfloat16. The states of a stream are an exception:
an output of one call is an input of the next, so they are float16 if the tensors that they hold are float16. The graphs
of streams and strips keep the same nodes in float32 as the graph of the whole component, because they share its
weights.

The module works on the finished ONNX graph and not within the lowering. So one place decides the precision of all
operations, by rules that name operators, and a range check uses the tensor names of the float32 graph.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from ...runtime.bundle import ports

__all__ = ["LOW_PRECISIONS", "PrecisionPlan", "opset_for", "plan_precision"]

LOW_PRECISIONS = ("float16", "bfloat16")
_OPSETS = {"float32": 18, "float16": 18, "bfloat16": 22}  # Conv takes bfloat16 from opset 22 on
# Operators that move values without changing them.
_MOVES = {"Concat", "Gather", "Pad", "Reshape", "Resize", "Slice", "Split", "Transpose"}
_PRODUCTS = {"Conv", "MatMul", "Scan"}
_STATISTICS = {"LayerNormalization", "ReduceMean", "Softmax", "Softplus", "Sqrt"}
_STATISTICS_INPUTS = {ports.MEAN, ports.VARIANCE}  # inputs of a strip graph: statistics of the whole picture
_ANGLES = {"Cos", "Sin"}


@dataclass(frozen=True)
class PrecisionPlan:
    """The precision of each node of a graph.

    Attributes:
        dtype: the low precision, "float16" or "bfloat16".
        float32_nodes: names of the nodes that compute in float32.
        float32_weights: weights that these nodes read, by their names in the weights file.
        sizes: names of the int64 values.
        low_ports: names of the graph's inputs and outputs in `dtype`.
    """

    dtype: str
    float32_nodes: frozenset[str]
    float32_weights: frozenset[str]
    sizes: frozenset[str]
    low_ports: frozenset[str]


def opset_for(dtype: str) -> int:
    """Return the ONNX opset of a precision.

    bfloat16 needs opset 22 for its Conv. The other precisions keep opset 18, for which every provider has kernels.
    """
    return _OPSETS[dtype]


def plan_precision(
    model: ModelProto, dtype: str, keep: Collection[str] = (), wide: Collection[str] = ()
) -> PrecisionPlan:
    """Decide the precision of each node of a float32 graph.

    A sum that is an output of the graph stays in float32: it accumulates the values of many layers, and rounding it
    would show.

    Args:
        model: the float32 graph.
        dtype: the low precision.
        keep: tensors that `dtype` cannot hold. Nodes that make or read one of them stay in float32.
        wide: weights that are stored in float32. Nodes that read one of them stay in float32.
    """
    sizes = _sizes(model.graph)
    nodes = [node for node in _every_node(model.graph) if node.output[0] not in sizes]
    constants = {tensor.name for tensor in model.graph.initializer}
    weights = {
        tensor.name: tensor.name.partition(":")[0]  # a weight with another shape has a suffix
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
    # The runtime passes states as NumPy arrays, and NumPy has no bfloat16.
    low = {port for name in states for port in (name, ports.next_state(name))} if dtype == "float16" else set()
    return PrecisionPlan(dtype, frozenset(high), frozenset(reads), frozenset(sizes), frozenset(low))


def _kept(nodes: Sequence[NodeProto], keep: Collection[str], inputs: Collection[str]) -> set[str]:
    """Return the tensors of `keep`, and the tensors to which moves copy their values.

    `keep` names a tensor by its name or by the name of its node (outputs of the graph have other names than their
    nodes). A state of a stream also carries values from one call to the next.
    """
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
    """Return the nodes whose inputs all come from float32 and whose results all go to float32, by name.

    Low precision would only lose digits there. Products are excluded: otherwise every node between the inputs and the
    outputs of the graph would qualify.
    """
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
    """Return the means, and the tensors computed only from means and constants: a norm subtracts and scales by them."""
    found = _STATISTICS_INPUTS.intersection(inputs)
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
    """Return the int64 values: shapes, inputs that determine sizes, and the results computed from them."""
    found = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.INT64}
    found |= {value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.INT64}
    for node in _every_node(graph):
        if node.op_type == "Shape" or node.input[0] in found:
            found.update(node.output)
    return found
