"""The rule of each ONNX operator: the shapes of its results, their values if they are sizes, and their edges.

An operator without a rule is an error that names it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from ...runtime.bundle import ports
from .edges import NOTHING, Edges, joined, merged, padded, reshaped, slid, taken, union
from .tensors import Tensor, UnknownOperator, WrongLength

__all__ = ["attributes_of", "results_of"]

Attributes = Mapping[str, Any]
Inputs = Sequence[Tensor | None]
Change = Callable[[Edges], Edges]


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """The attributes of a node by name."""
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def results_of(node: NodeProto, inputs: Inputs, *, local: bool) -> list[Tensor]:
    """The results of a node.

    Args:
        node: the node.
        inputs: its inputs; None for an optional input that is left out.
        local: leave out what depends on every position: means over positions, and keys and values of attention.

    Raises:
        UnknownOperator: there is no rule. WrongLength: the node does not run at these lengths.
    """
    attributes = attributes_of(node)
    known = _VALUES.get(node.op_type)
    if known is not None and all(one is None or one.value is not None for one in inputs):
        values = [None if one is None else one.value for one in inputs]
        return [Tensor.of_value(known(attributes, *values))]
    if node.op_type == "Shape":
        return [_shape(attributes, _given(inputs, 0))]
    rule = _RULES.get(node.op_type)
    if rule is None:
        raise UnknownOperator(f"{node.op_type} ({node.name}): there is no rule for this operator; add one to the room")
    try:
        return rule(attributes, inputs, len(node.output), local)
    except (ValueError, IndexError) as error:
        raise WrongLength(f"{node.op_type} ({node.name}) does not run at these lengths: {error}") from error


def _given(inputs: Inputs, index: int) -> Tensor:
    found = inputs[index] if index < len(inputs) else None
    if found is None:
        raise ValueError(f"input {index} is missing")
    return found


def _value(inputs: Inputs, index: int) -> Any:
    found = _given(inputs, index).value
    if found is None:
        raise ValueError(f"the value of input {index} is not known")
    return found


def _changed(tensor: Tensor, shape: Sequence[int], change: Change) -> Tensor:
    return Tensor(tuple(shape), None, {axis: change(edges) for axis, edges in tensor.edges.items()})


def _united(shape: Sequence[int], parts: Sequence[Mapping[str, Edges]]) -> Tensor:
    axes = dict.fromkeys(axis for part in parts for axis in part)
    edges = {axis: union([part[axis] for part in parts if axis in part]) for axis in axes}
    return Tensor(tuple(shape), None, edges)


def _elementwise(attributes: Attributes, inputs: Inputs, outputs: int, local: bool) -> list[Tensor]:
    given = [one for one in inputs if one is not None]
    if len(given) == 1:
        return [Tensor(given[0].shape, None, given[0].edges)]
    return [_united(np.broadcast_shapes(*(one.shape for one in given)), [one.edges for one in given])]


def _conv(attributes: Attributes, inputs: Inputs, outputs: int, local: bool) -> list[Tensor]:
    hidden, weight = _given(inputs, 0), _given(inputs, 1)
    rank = len(hidden.shape) - 2
    kernel = list(attributes.get("kernel_shape") or weight.shape[2:])
    strides, dilations = (list(attributes.get(name) or [1] * rank) for name in ("strides", "dilations"))
    pads = list(attributes.get("pads") or [0] * 2 * rank)
    around = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]
    sizes = [
        (length + sum(around[2 + axis]) - dilations[axis] * (kernel[axis] - 1) - 1) // strides[axis] + 1
        for axis, length in enumerate(hidden.shape[2:])
    ]
    if min(sizes) < 1:
        raise ValueError(f"a convolution over {hidden.shape[2:]} gives {sizes}")

    def change(edges: Edges) -> Edges:
        edges = padded(merged(edges, [1]), around, reflect=False)
        for axis in range(rank):
            edges = slid(edges, 2 + axis, kernel[axis], strides[axis], dilations[axis])
        return edges

    return [_changed(hidden, (hidden.shape[0], weight.shape[0], *sizes), change)]


def _pad(attributes: Attributes, inputs: Inputs, outputs: int, local: bool) -> list[Tensor]:
    hidden, pads = _given(inputs, 0), _value(inputs, 1)
    around = [(int(a), int(b)) for a, b in zip(pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True)]
    shape = [length + sum(pair) for length, pair in zip(hidden.shape, around, strict=True)]
    mode = attributes.get("mode", b"constant")
    if mode == b"reflect" and any(max(pair) >= max(n, 1) for n, pair in zip(hidden.shape, around, strict=True)):
        raise ValueError(f"{hidden.shape} is too small to be mirrored by {around}")
    return [_changed(hidden, shape, lambda edges: padded(edges, around, reflect=mode == b"reflect"))]


def _resize(attributes: Attributes, inputs: Inputs, outputs: int, local: bool) -> list[Tensor]:
    hidden, scales = _given(inputs, 0), _value(inputs, 2)
    factors = [int(scale) for scale in scales]
    if attributes.get("mode") != b"nearest" or any(scale != int(scale) for scale in scales):
        raise UnknownOperator("Resize: the rule is that of nearest neighbours and whole factors")

    def change(edges: Edges) -> Edges:
        for axis, factor in enumerate(factors):
            edges = np.repeat(edges, factor, axis=2 + axis) if edges.shape[2 + axis] > 1 else edges
        return edges

    return [_changed(hidden, [n * factor for n, factor in zip(hidden.shape, factors, strict=True)], change)]


def _reshape(attributes: Attributes, inputs: Inputs, outputs: int, local: bool) -> list[Tensor]:
    hidden = _given(inputs, 0)
    sizes = [hidden.shape[axis] if size == 0 else int(size) for axis, size in enumerate(_value(inputs, 1))]
    # `reshape` resolves one -1, and refuses sizes that do not divide.
    shape = np.broadcast_to(np.int8(0), hidden.shape).reshape(sizes).shape
    return [_changed(hidden, shape, lambda edges: reshaped(edges, hidden.shape, shape))]


def _transpose(attributes: Attributes, inputs: Inputs, outputs: int, local: bool) -> list[Tensor]:
    hidden = _given(inputs, 0)
    order = list(attributes.get("perm") or range(len(hidden.shape))[::-1])
    shape = [hidden.shape[axis] for axis in order]
    return [_changed(hidden, shape, lambda edges: edges.transpose(0, 1, *(2 + axis for axis in order)))]


def _unsqueeze(attributes: Attributes, inputs: Inputs, outputs: int, local: bool) -> list[Tensor]:
    hidden = _given(inputs, 0)
    rank = len(hidden.shape) + len(_value(inputs, 1))
    new = {int(axis) % rank for axis in _value(inputs, 1)}
    lengths = iter(hidden.shape)
    shape = [1 if axis in new else next(lengths) for axis in range(rank)]
    return [_changed(hidden, shape, lambda edges: np.expand_dims(edges, tuple(2 + axis for axis in sorted(new))))]


def _squeeze(attributes: Attributes, inputs: Inputs, outputs: int, local: bool) -> list[Tensor]:
    hidden = _given(inputs, 0)
    gone = {int(axis) % len(hidden.shape) for axis in _value(inputs, 1)}
    shape = [length for axis, length in enumerate(hidden.shape) if axis not in gone]
    return [_changed(hidden, shape, lambda edges: np.squeeze(edges, tuple(2 + axis for axis in gone)))]


def _concat(attributes: Attributes, inputs: Inputs, outputs: int, local: bool) -> list[Tensor]:
    given = [one for one in inputs if one is not None]
    axis = attributes["axis"] % len(given[0].shape)
    shape = [*given[0].shape[:axis], sum(one.shape[axis] for one in given), *given[0].shape[axis + 1 :]]
    edges = {}
    for name in dict.fromkeys(name for one in given for name in one.edges):
        like = next(one.edges[name] for one in given if name in one.edges)
        empty = np.full((*like.shape[:2], *[1] * len(shape)), NOTHING, np.int32)
        edges[name] = joined(
            [(one.edges.get(name, empty), one.shape[axis]) for one in given], axis, each=name == ports.FRAMES
        )
    return [Tensor(tuple(shape), None, edges)]


def _slice(attributes: Attributes, inputs: Inputs, outputs: int, local: bool) -> list[Tensor]:
    hidden, starts, ends = _given(inputs, 0), _value(inputs, 1), _value(inputs, 2)
    rank = len(hidden.shape)
    axes = _value(inputs, 3) if len(inputs) > 3 else range(len(starts))
    steps = _value(inputs, 4) if len(inputs) > 4 else [1] * len(starts)
    result = hidden
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        at = int(axis) % rank
        kept = np.arange(result.shape[at])[int(start) : int(end) : int(step)]
        shape = (*result.shape[:at], len(kept), *result.shape[at + 1 :])
        result = _changed(result, shape, lambda edges, at=at, kept=kept: taken(edges, at, kept))  # type: ignore[misc]
    return [result]


def _gather(attributes: Attributes, inputs: Inputs, outputs: int, local: bool) -> list[Tensor]:
    hidden, indices = _given(inputs, 0), _value(inputs, 1)
    at = attributes.get("axis", 0) % len(hidden.shape)
    if indices.size and not (-hidden.shape[at] <= indices.min() and indices.max() < hidden.shape[at]):
        raise ValueError(f"an index is outside the {hidden.shape[at]} positions")
    indices = indices % hidden.shape[at]
    shape = (*hidden.shape[:at], *indices.shape, *hidden.shape[at + 1 :])
    return [_changed(hidden, shape, lambda edges: taken(edges, at, indices))]


def _split(attributes: Attributes, inputs: Inputs, outputs: int, local: bool) -> list[Tensor]:
    hidden = _given(inputs, 0)
    axis = attributes.get("axis", 0) % len(hidden.shape)
    length = -(-hidden.shape[axis] // outputs)
    sizes = _value(inputs, 1) if len(inputs) > 1 else [length] * outputs
    results, start = [], 0
    for size in sizes:
        kept = np.arange(start, min(start + int(size), hidden.shape[axis]))
        shape = (*hidden.shape[:axis], len(kept), *hidden.shape[axis + 1 :])
        results.append(_changed(hidden, shape, lambda edges, kept=kept: taken(edges, axis, kept)))  # type: ignore[misc]
        start += int(size)
    return results


def _mean(attributes: Attributes, inputs: Inputs, outputs: int, local: bool) -> list[Tensor]:
    hidden = _given(inputs, 0)
    axes = _value(inputs, 1) if len(inputs) > 1 else attributes.get("axes", range(len(hidden.shape)))
    axes = sorted(int(axis) % len(hidden.shape) for axis in axes)
    result = _of_all(hidden, axes, local)
    shape = [1 if axis in axes else length for axis, length in enumerate(hidden.shape)]
    if attributes.get("keepdims", 1):
        return [Tensor(tuple(shape), None, result.edges)]
    kept = [length for axis, length in enumerate(hidden.shape) if axis not in axes]
    return [_changed(result, kept, lambda edges: np.squeeze(edges, tuple(2 + axis for axis in axes)))]


def _normalised(attributes: Attributes, inputs: Inputs, outputs: int, local: bool) -> list[Tensor]:
    hidden, axis = _given(inputs, 0), attributes.get("axis", -1)
    mixed = _of_all(hidden, [axis % len(hidden.shape)], local)
    return [_united(hidden.shape, [hidden.edges, mixed.edges])]


def _matmul(attributes: Attributes, inputs: Inputs, outputs: int, local: bool) -> list[Tensor]:
    left, right = _given(inputs, 0), _given(inputs, 1)
    shape = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    rows = _changed(left, left.shape, lambda edges: merged(edges, [edges.ndim - 3]))
    columns = _changed(right, right.shape, lambda edges: merged(edges, [edges.ndim - 4]))
    parts = [rows.edges, columns.edges]
    if local and left.edges and right.edges:
        parts = [rows.edges]
    return [_united((*shape, left.shape[-2], right.shape[-1]), parts)]


def _of_all(hidden: Tensor, axes: Sequence[int], local: bool) -> Tensor:
    """Everything along `axes`. With `local`, an axis of positions counts as none: its statistics are given."""
    edges = {name: merged(own, axes) for name, own in hidden.edges.items()}
    if local and any(_is_along(own, axis) for own in hidden.edges.values() for axis in axes):
        edges = {}
    return Tensor(hidden.shape, None, edges)


def _is_along(edges: Edges, axis: int) -> bool:
    """Whether an axis holds positions: the edges differ along it by more than the width of what is packed there."""
    return edges.shape[2 + axis] > 1 and axis != 1


def _shape(attributes: Attributes, tensor: Tensor) -> Tensor:
    return Tensor.of_value(np.array(tensor.shape[attributes.get("start", 0) : attributes.get("end")], np.int64))


def _sliced_value(
    attributes: Attributes, array: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None
) -> Any:
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        kept = np.arange(array.shape[int(axis)])[int(start) : int(end) : int(step)]
        array = np.take(array, kept, axis=int(axis))
    return array


def _divided(attributes: Attributes, left: Any, right: Any) -> Any:
    whole = np.issubdtype(np.asarray(left).dtype, np.integer)
    return np.floor_divide(left, right) if whole else np.divide(left, right)


# Operators on sizes and small constants, with NumPy.
_VALUES: dict[str, Callable[..., Any]] = {
    "Add": lambda _, left, right: np.add(left, right),
    "Concat": lambda attributes, *parts: np.concatenate(parts, axis=attributes["axis"]),
    "Div": _divided,
    "Gather": lambda attributes, array, indices: np.take(array, indices, axis=attributes.get("axis", 0)),
    "Identity": lambda _, array: array,
    "Max": lambda _, *parts: np.maximum.reduce(np.broadcast_arrays(*parts)),
    "Min": lambda _, *parts: np.minimum.reduce(np.broadcast_arrays(*parts)),
    "Mod": lambda _, left, right: np.mod(left, right),
    "Mul": lambda _, left, right: np.multiply(left, right),
    "Neg": lambda _, array: np.negative(array),
    "Range": lambda _, start, stop, step: np.arange(int(start), int(stop), int(step)),
    "Slice": _sliced_value,
    "Squeeze": lambda _, array, axes=None: np.squeeze(array, None if axes is None else tuple(map(int, axes))),
    "Sub": lambda _, left, right: np.subtract(left, right),
    "Unsqueeze": lambda _, array, axes: np.expand_dims(array, tuple(map(int, axes))),
}

_EACH = (
    "Add",
    "Cast",
    "Cos",
    "Div",
    "Erf",
    "Identity",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Relu",
    "Sigmoid",
    "Sin",
    "Softplus",
)
_RULES: dict[str, Callable[[Attributes, Inputs, int, bool], list[Tensor]]] = {
    **dict.fromkeys((*_EACH, "Sqrt", "Sub", "Tanh"), _elementwise),
    "Concat": _concat,
    "Conv": _conv,
    "Gather": _gather,
    "LayerNormalization": _normalised,
    "MatMul": _matmul,
    "Pad": _pad,
    "ReduceMean": _mean,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Softmax": _normalised,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
