"""Follows a graph node by node at one size, with shapes and edges in place of numbers."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from .edges import Edges, positions
from .operators import attributes_of, results_of
from .tensors import Tensor

__all__ = ["AXES", "Source", "follow", "kind_of_axis", "sources_of"]

AXES = {
    "frames": ("frames",),
    "height": ("height", "rows"),
    "width": ("width", "columns"),
}
"""The axes of positions, and how the names of a graph's dynamic axes end."""


class Source:
    """One input that has positions.

    Attributes:
        name: the name of the input.
        axes: by axis of positions, the index of the tensor's axis and how many positions it has per unit of the name.
    """

    def __init__(self, name: str, axes: Mapping[str, tuple[int, int]]) -> None:
        self.name, self.axes = name, axes


def kind_of_axis(name: str | int) -> str | None:
    """Which axis of positions a dynamic axis is, such as "height" of "4*height". None: it is none."""
    if isinstance(name, int):
        return None
    return next((kind for kind, ends in AXES.items() if name.endswith(ends)), None)


def sources_of(model: ModelProto) -> tuple[Source, ...]:
    """The inputs of a model that have positions, in their order."""
    found = []
    for value in model.graph.input:
        axes = {}
        for index, dimension in enumerate(value.type.tensor_type.shape.dim):
            kind = kind_of_axis(dimension.dim_param)
            if kind is not None:
                factor = dimension.dim_param.rpartition("*")[0]
                axes[kind] = index, int(factor or 1)
        if axes:
            found.append(Source(value.name, axes))
    return tuple(found)


def follow(
    model: ModelProto,
    shapes: Mapping[str, Sequence[int]],
    *,
    values: Mapping[str, int] | None = None,
    axes: Sequence[str] = ("height", "width"),
    given: Mapping[str, Mapping[str, Edges]] | None = None,
    local: bool = False,
    slots: Mapping[str, int] | None = None,
) -> dict[str, Tensor]:
    """Return every tensor of a model by its name.

    Args:
        model: the model. The values of its weights are not read.
        shapes: the shape of each input.
        values: the values of inputs that are whole numbers, such as "first".
        axes: the axes of positions to follow.
        given: edges of inputs that are not sources of their own. Then the other inputs have none.
        local: as in `results_of`.
        slots: by name of an input, its place among the sources; inputs may share a place. None gives each its own.

    Raises:
        UnknownOperator: an operator has no rule. WrongLength: the model does not run at these lengths.
    """
    sources = sources_of(model)
    slots = {source.name: index for index, source in enumerate(sources)} if slots is None else slots
    tensors = dict(_constants(model.graph))
    for value in model.graph.input:
        name, shape = value.name, tuple(shapes[value.name])
        if values is not None and name in values:
            tensors[name] = Tensor.of_value(np.full(shape, values[name], np.int64))
        elif given is not None:
            tensors[name] = Tensor(shape, None, given.get(name, {}))
        else:
            tensors[name] = Tensor(shape, None, _own_edges(sources, slots, name, shape, axes))
    _follow(model.graph, tensors, local)
    return tensors


def _own_edges(
    sources: Sequence[Source], slots: Mapping[str, int], name: str, shape: Sequence[int], axes: Sequence[str]
) -> dict[str, Edges]:
    count = max(slots.values(), default=0) + 1
    for source in sources:
        if source.name == name:
            own = {kind: at for kind, (at, _) in source.axes.items() if kind in axes}
            return {kind: positions(len(shape), at, shape[at], slots[name], count) for kind, at in own.items()}
    return {}


def _follow(graph: GraphProto, tensors: dict[str, Tensor], local: bool) -> None:
    for node in graph.node:
        if node.op_type == "Scan":
            tensors |= _scan(node, tensors, local)
            continue
        inputs = [tensors[name] if name else None for name in node.input]
        tensors |= zip(node.output, results_of(node, inputs, local=local), strict=True)


def _scan(node: NodeProto, outer: Mapping[str, Tensor], local: bool) -> Iterator[tuple[str, Tensor]]:
    """A body that runs over slices of its inputs. Every slice counts as all of them together."""
    attributes = attributes_of(node)
    body, own = attributes["body"], dict(outer)
    axes_in = attributes["scan_input_axes"]
    count = 0
    for name, inner, axis in zip(node.input, body.input, axes_in, strict=True):
        hidden = outer[name]
        count = hidden.shape[axis]
        shape = (*hidden.shape[:axis], *hidden.shape[axis + 1 :])
        edges = {kind: one.min(axis=2 + axis) for kind, one in hidden.edges.items()}
        own[inner.name] = Tensor(shape, None, edges)
    _follow(body, own, local)
    for name, inner, axis in zip(node.output, body.output, attributes["scan_output_axes"], strict=True):
        made = own[inner.name]
        shape = (*made.shape[:axis], count, *made.shape[axis:])
        yield name, Tensor(shape, None, {kind: np.expand_dims(one, 2 + axis) for kind, one in made.edges.items()})


def _constants(graph: GraphProto) -> Iterator[tuple[str, Tensor]]:
    """The initializers: those in the graph file with their values, weights with their shapes."""
    for proto in graph.initializer:
        if proto.data_location == TensorProto.EXTERNAL:
            yield proto.name, Tensor(tuple(proto.dims))
        else:
            yield proto.name, Tensor.of_value(numpy_helper.to_array(proto))
