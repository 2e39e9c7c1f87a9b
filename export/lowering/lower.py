"""The ONNX nodes of each PyTorch function and tensor method: one function per operation, and a table of them.

`module_nodes.py` has the same for modules. Both support exactly the operations that the reference models use. An
operation without an entry is an error that names the layer.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ...runtime.errors import LatentRTError
from .graph import GraphBuilder
from .module_nodes import MODULES, linear
from .sizes import END, ComputedShape, ComputedSize, Dimension, Value, Whole, as_size_tensor, cut

__all__ = ["LEAF_MODULES", "LoweringError", "lower_call", "lower_module"]

Number = int | float


class LoweringError(LatentRTError):
    """A model uses an operation that the export does not support."""


def lower_module(builder: GraphBuilder, module: nn.Module, name: str, *inputs: Value) -> Value:
    """Add the nodes of one leaf module.

    Args:
        builder: the graph.
        module: the module.
        name: path of the module in the model, and prefix of its weights' names.
        inputs: inputs of its `forward`.

    Raises:
        LoweringError: the module is of an unsupported kind.
    """
    for kind, handler in MODULES.items():
        if isinstance(module, kind):
            return handler(builder, module, name, *inputs)
    raise LoweringError(f"no ONNX lowering for {type(module).__name__}")


def lower_call(builder: GraphBuilder, target: Callable[..., Any] | str, *args: Any, **kwargs: Any) -> Any:
    """Add the nodes of one function or tensor method.

    Raises:
        LoweringError: the function is not supported.
    """
    if target not in _CALLS:
        raise LoweringError(f"no ONNX lowering for {getattr(target, '__name__', target)}")
    return _CALLS[target](builder, *args, **kwargs)


def _binary(onnx_operator: str, python: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def handler(builder: GraphBuilder, left: Any, right: Any) -> Any:
        if isinstance(left, Value) or isinstance(right, Value):
            return Value(builder.node(onnx_operator, *(_operand(builder, side) for side in (left, right))))
        if isinstance(left, int) and isinstance(right, int):
            return python(left, right)
        if right == 1 and onnx_operator in ("Mul", "Div"):
            return left
        return ComputedSize(
            builder.shared_node(onnx_operator, *(as_size_tensor(builder, side) for side in (left, right)))
        )

    return handler


def _operand(builder: GraphBuilder, value: Value | Number) -> str:
    return value.name if isinstance(value, Value) else builder.constant(value)


def _unary(onnx_operator: str) -> Callable[..., Value]:
    return lambda builder, hidden: Value(builder.node(onnx_operator, hidden.name))


def _getattr(builder: GraphBuilder, value: Value, name: str) -> ComputedShape:
    if name != "shape":
        raise LoweringError(f"no ONNX lowering for the attribute {name}")
    return ComputedShape(value.name)


def _getitem(builder: GraphBuilder, value: Any, index: Any) -> Any:
    if not isinstance(value, Value):
        return value[index]
    # From the last axis to the first, so that an axis that an integer removes does not shift the others.
    result = value.name
    positions = index if isinstance(index, tuple) else (index,)
    for axis, item in reversed(list(enumerate(positions))):
        if isinstance(item, int):
            result = builder.node("Gather", result, builder.constant(item, "int64"), axis=axis)
        elif item != slice(None):
            start, end = 0 if item.start is None else item.start, END if item.stop is None else item.stop
            result = cut(builder, result, start, end, axis)
    return Value(result)


def _reshape(builder: GraphBuilder, value: Value, *shape: Any) -> Value:
    if len(shape) == 1 and isinstance(shape[0], ComputedShape):
        return Value(builder.node("Reshape", value.name, builder.shared_node("Shape", shape[0].tensor)))
    sizes: Sequence[Whole] = shape
    if value.weight is not None and all(isinstance(size, int) for size in sizes):
        return Value(builder.weight(value.weight, _resolved(builder.weight_shape(value.weight), sizes)))
    # In ONNX, 0 copies the input's size of that axis, and one -1 is computed from the other sizes.
    sizes = [0 if size == Dimension(value.name, axis) else size for axis, size in enumerate(sizes)]
    unknown = [axis for axis, size in enumerate(sizes) if not isinstance(size, int)]
    if len(unknown) == 1 and -1 not in sizes:
        sizes = [-1 if axis in unknown else size for axis, size in enumerate(sizes)]
        unknown = []
    if not unknown:
        target = builder.constant(sizes, "int64")
    else:
        target = builder.shared_node("Concat", *(as_size_tensor(builder, size) for size in sizes), axis=0)
    return Value(builder.node("Reshape", value.name, target))


def _resolved(shape: tuple[int, ...], sizes: Sequence[Any]) -> tuple[int, ...]:
    return tuple(int(size) for size in np.empty(shape, np.bool_).reshape(sizes).shape)


def _flatten(builder: GraphBuilder, value: Value, start: int) -> Value:
    return Value(builder.node("Reshape", value.name, builder.constant([0] * start + [-1], "int64")))


def _permute(builder: GraphBuilder, value: Value, *axes: int) -> Value:
    return Value(builder.node("Transpose", value.name, perm=axes))


def _transpose(builder: GraphBuilder, value: Value, first: int, second: int) -> Value:
    # The reference models call `transpose` on three-dimensional tensors only.
    axes = [0, 1, 2]
    axes[first], axes[second] = second, first
    return _permute(builder, value, *axes)


def _cat(builder: GraphBuilder, values: Sequence[Value], dim: int) -> Value:
    if len(values) == 1:
        return values[0]
    return Value(builder.node("Concat", *(value.name for value in values), axis=dim))


def _chunk(builder: GraphBuilder, value: Value, chunks: int, dim: int) -> tuple[Value, ...]:
    return tuple(
        Value(name) for name in builder.node("Split", value.name, axis=dim, num_outputs=chunks, outputs=chunks)
    )


def _mean(builder: GraphBuilder, value: Value, dim: int, keepdim: bool = False) -> Value:
    return Value(builder.node("ReduceMean", value.name, builder.constant([dim], "int64"), keepdims=int(keepdim)))


def _pad(builder: GraphBuilder, hidden: Value, amounts: tuple[Whole, Whole, Whole, Whole], **_: Any) -> Value:
    left, right, top, bottom = amounts
    sizes = (0, 0, top, left, 0, 0, bottom, right)
    if all(isinstance(size, int) for size in sizes):
        return Value(builder.node("Pad", hidden.name, builder.constant(sizes, "int64")))
    target = builder.shared_node("Concat", *(as_size_tensor(builder, size) for size in sizes), axis=0)
    return Value(builder.node("Pad", hidden.name, target))


def _conv2d(builder: GraphBuilder, hidden: Value, weight: Value, bias: Value, strides: tuple[int, int]) -> Value:
    return Value(builder.node("Conv", hidden.name, weight.name, bias.name, strides=strides))


LEAF_MODULES = tuple(MODULES)

_CALLS: dict[Callable[..., Any] | str, Callable[..., Any]] = {
    operator.add: _binary("Add", operator.add),
    operator.sub: _binary("Sub", operator.sub),
    operator.mul: _binary("Mul", operator.mul),
    operator.truediv: _binary("Div", operator.truediv),
    operator.floordiv: _binary("Div", operator.floordiv),  # of sizes, which are positive
    operator.getitem: _getitem,
    getattr: _getattr,
    torch.cat: _cat,
    torch.cos: _unary("Cos"),
    torch.sin: _unary("Sin"),
    torch.sqrt: _unary("Sqrt"),
    torch.mean: _mean,
    nn.functional.conv2d: _conv2d,
    nn.functional.linear: linear,
    nn.functional.pad: _pad,
    "chunk": _chunk,
    "flatten": _flatten,
    "permute": _permute,
    "reshape": _reshape,
    "transpose": _transpose,
}
