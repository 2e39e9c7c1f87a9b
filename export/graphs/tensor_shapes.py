"""The shape of every tensor of a graph at one size. Nothing is computed except sizes."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

__all__ = ["GraphShapes", "UnknownShape"]

Whole = NDArray[Any]
Shape = tuple[int, ...]
Attributes = Mapping[str, Any]
_MOST_KNOWN = 64  # elements of a tensor whose values are followed: sizes and indices are short


class UnknownShape(Exception):
    """The shape of a tensor cannot be found."""


class GraphShapes:
    """The shapes of a graph's tensors.

    Args:
        model: the model. The values of its weights are not read.
    """

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self._nodes = [(node, _attributes(node), [name for name in node.input if name]) for node in model.graph.node]
        self._constants = _Walk(model.opset_import[0].version)
        for proto in model.graph.initializer:
            self._constants.add_constant(proto)

    def at(self, axes: Mapping[str, int], values: Mapping[str, int]) -> dict[str, Shape]:
        """Return the shape of every floating-point tensor, weights included, by its name.

        Args:
            axes: the length of each named axis of the inputs.
            values: the value of each input that is a whole number, such as "first".

        Raises:
            UnknownShape: an axis has no length, or an operator is not known.
        """
        walk = self._constants.copy()
        for value in self._model.graph.input:
            walk.add_input(value, axes, values)
        for node in self._nodes:
            walk.add_node(*node)
        return {name: shape for name, shape in walk.shapes.items() if walk.kinds[name] != TensorProto.INT64}


class _Walk:
    """The shapes and element types of all tensors so far, and the values of those that hold sizes."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.shapes: dict[str, Shape] = {}
        self.kinds: dict[str, int] = {}
        self._known: dict[str, Whole] = {}

    def copy(self) -> "_Walk":
        made = _Walk(self.opset)
        made.shapes, made.kinds, made._known = dict(self.shapes), dict(self.kinds), dict(self._known)
        return made

    def add_constant(self, proto: TensorProto) -> None:
        self._add(proto.name, proto.data_type, tuple(proto.dims))
        if not proto.external_data and math.prod(proto.dims) <= _MOST_KNOWN:
            self._known[proto.name] = numpy_helper.to_array(proto)

    def add_input(self, value: onnx.ValueInfoProto, axes: Mapping[str, int], values: Mapping[str, int]) -> None:
        if value.name in values:
            self._add_value(value.name, np.array([values[value.name]], np.int64))
            return
        kind = value.type.tensor_type
        lengths = (axis.dim_value or _length(axis.dim_param, axes) for axis in kind.shape.dim)
        self._add(value.name, kind.elem_type, tuple(lengths))

    def add_node(self, node: NodeProto, attributes: Attributes, given: list[str]) -> None:
        operator = node.op_type
        evaluate, shape_of = _VALUES.get(operator), _SHAPES.get(operator)
        if operator == "Shape":
            lengths = self.shapes[given[0]][attributes.get("start", 0) : attributes.get("end")]
            self._add_value(node.output[0], np.array(lengths, np.int64))
        elif evaluate is not None and all(name in self._known for name in given):
            inputs = [self._known[name] for name in given]
            self._add_value(node.output[0], np.asarray(evaluate(attributes, inputs)))
        elif shape_of is not None:
            self._add(node.output[0], self.kinds[given[0]], shape_of(attributes, [self.shapes[one] for one in given]))
        else:
            self._infer(node, given)

    def _infer(self, node: NodeProto, given: list[str]) -> None:
        """Ask ONNX for the shapes of a node's results. It knows every operator, but it takes long."""
        types = {name: helper.make_tensor_type_proto(self.kinds[name], self.shapes[name]) for name in given}
        known = {name: numpy_helper.from_array(self._known[name], name) for name in given if name in self._known}
        try:
            made = onnx.shape_inference.infer_node_outputs(
                onnx.defs.get_schema(node.op_type, self.opset),
                node,
                types,
                known,
                opset_imports=[helper.make_opsetid("", self.opset)],
            )
        except (onnx.shape_inference.InferenceError, onnx.defs.SchemaError) as error:
            raise UnknownShape(f"{node.op_type} ({node.name}): {error}") from error
        for name in node.output:
            kind = made[name].tensor_type if name in made else None
            if kind is None or not kind.HasField("shape"):
                raise UnknownShape(f"{node.op_type} ({node.name}) gives no shape")
            if not all(axis.HasField("dim_value") for axis in kind.shape.dim):
                raise UnknownShape(f"{node.op_type} ({node.name}) gives an axis of no known length")
            self._add(name, kind.elem_type, tuple(axis.dim_value for axis in kind.shape.dim))

    def _add(self, name: str, kind: int, shape: Shape) -> None:
        self.shapes[name], self.kinds[name] = shape, kind

    def _add_value(self, name: str, value: Whole) -> None:
        self._add(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        self._known[name] = value


def _length(name: str, axes: Mapping[str, int]) -> int:
    factor, _, axis = name.rpartition("*")
    if axis not in axes:
        raise UnknownShape(f"the axis {axis!r} has no length")
    return int(factor or 1) * axes[axis]


def _attributes(node: NodeProto) -> Attributes:
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def _broadcast(attributes: Attributes, inputs: list[Shape]) -> Shape:
    first, *others = inputs
    return first if all(one == first or one == () for one in others) else np.broadcast_shapes(*inputs)


def _concatenated(attributes: Attributes, inputs: list[Shape]) -> Shape:
    axis, first = attributes["axis"] % len(inputs[0]), inputs[0]
    return (*first[:axis], sum(one[axis] for one in inputs), *first[axis + 1 :])


def _convolved(attributes: Attributes, inputs: list[Shape]) -> Shape:
    (batch, _, *lengths), (channels, _, *kernel) = inputs[:2]
    rank = len(kernel)
    strides, dilations = (attributes.get(name) or [1] * rank for name in ("strides", "dilations"))
    pads = attributes.get("pads") or [0] * 2 * rank
    spans = (step * (size - 1) + 1 for size, step in zip(kernel, dilations, strict=True))
    around = (before + after for before, after in zip(pads[:rank], pads[rank:], strict=True))
    rows = zip(lengths, around, spans, strides, strict=True)
    return (batch, channels, *((length + more - span) // stride + 1 for length, more, span, stride in rows))


def _gathered(attributes: Attributes, inputs: list[Shape]) -> Shape:
    data, indices = inputs
    axis = attributes.get("axis", 0) % len(data)
    return (*data[:axis], *indices, *data[axis + 1 :])


def _transposed(attributes: Attributes, inputs: list[Shape]) -> Shape:
    return tuple(inputs[0][axis] for axis in attributes["perm"])


def _slice(attributes: Attributes, inputs: list[Whole]) -> Whole:
    data, starts, stops, *rest = inputs
    axes = rest[0] if rest else range(len(starts))
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    slices = [slice(None)] * data.ndim
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        slices[int(axis)] = slice(int(start), int(stop), int(step))
    return data[tuple(slices)]


def _divided(attributes: Attributes, inputs: list[Whole]) -> Whole:
    first, second = inputs
    return np.trunc(first / second).astype(first.dtype) if first.dtype == np.int64 else first / second


_VALUES: dict[str, Callable[[Attributes, list[Whole]], Any]] = {
    "Add": lambda attributes, inputs: inputs[0] + inputs[1],
    "Concat": lambda attributes, inputs: np.concatenate(inputs, attributes["axis"]),
    "Div": _divided,
    "Gather": lambda attributes, inputs: np.take(inputs[0], inputs[1], attributes.get("axis", 0)),
    "Max": lambda attributes, inputs: np.maximum.reduce(np.broadcast_arrays(*inputs)),
    "Min": lambda attributes, inputs: np.minimum.reduce(np.broadcast_arrays(*inputs)),
    "Mod": lambda attributes, inputs: np.mod(*inputs),
    "Mul": lambda attributes, inputs: inputs[0] * inputs[1],
    "Range": lambda attributes, inputs: np.arange(*map(int, inputs)),
    "Slice": _slice,
    "Squeeze": lambda attributes, inputs: np.squeeze(inputs[0], tuple(map(int, inputs[1])) if inputs[1:] else None),
    "Sub": lambda attributes, inputs: inputs[0] - inputs[1],
    "Unsqueeze": lambda attributes, inputs: np.expand_dims(inputs[0], tuple(map(int, inputs[1]))),
}
"""How the operators of shape arithmetic compute, from their attributes and inputs."""

_SHAPES: dict[str, Callable[[Attributes, list[Shape]], Shape]] = {
    **dict.fromkeys(("Add", "Div", "Mul", "Sub", "Sigmoid", "Sqrt", "Softmax"), _broadcast),
    "Concat": _concatenated,
    "Conv": _convolved,
    "Gather": _gathered,
    "Transpose": _transposed,
}
"""The shapes of the results of the commonest operators, from their attributes and the shapes of their inputs."""
