"""The ONNX nodes of each leaf module: one function per kind of module, and a table of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from ..models.attention import ScaledDotProduct
from ..models.autoencoder_kl import Upsample
from ..models.time_axis import Delayed, StreamWindow
from .graph import GraphBuilder
from .phases import doubling_convolution
from .planar import is_planar, planar_convolution
from .sizes import END, ComputedSize, Dimension, Value, as_size_tensor, cut

__all__ = ["MODULES", "linear"]


def _conv(builder: GraphBuilder, module: nn.Conv2d | nn.Conv3d, name: str, hidden: Value) -> Value:
    if builder.for_cpu and isinstance(module, nn.Conv3d) and is_planar(module):
        return planar_convolution(builder, module, name, hidden)
    source, padding = hidden.name, tuple(int(size) for size in module.padding)
    if module.padding_mode == "reflect":
        amounts = [0, 0, *padding] * 2
        source = builder.node("Pad", source, builder.constant(amounts, "int64"), mode="reflect")
        padding = (0,) * len(padding)
    inputs = [source, builder.weight(f"{name}.weight")]
    if module.bias is not None:
        inputs.append(builder.weight(f"{name}.bias"))
    result = builder.node(
        "Conv", *inputs, kernel_shape=module.kernel_size, strides=module.stride, pads=padding * 2, group=module.groups
    )
    return Value(result)


def _upsample(builder: GraphBuilder, module: Upsample, name: str, hidden: Value, surrounded: bool = False) -> Value:
    bias = builder.weight(f"{name}.conv.bias")
    if builder.for_cpu:
        return doubling_convolution(builder, f"{name}.conv.weight", bias, hidden, surrounded=surrounded)
    double = _nearest(builder, hidden.name, 2.0)
    if surrounded:
        double = cut(builder, cut(builder, double, 1, -1, 2), 1, -1, 3)
    padding = (0 if surrounded else 1,) * 4
    weight = builder.weight(f"{name}.conv.weight")
    return Value(builder.node("Conv", double, weight, bias, kernel_shape=(3, 3), pads=padding))


def _nearest(builder: GraphBuilder, hidden: str, factor: float) -> str:
    scales = builder.constant([1.0, 1.0, factor, factor], "float32")
    resized = builder.node(
        "Resize", hidden, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    return str(resized)


def _group_norm(builder: GraphBuilder, module: nn.GroupNorm, name: str, hidden: Value) -> Value:
    """Write a group norm with means of rows, then means over the rows of a group, and squared deviations.

    The error of a float32 sum grows with its length. ONNX Runtime's InstanceNormalization sums a group at once and
    loses one and a half decimal digits over 4 million elements. ONNX redefined its GroupNormalization between opsets
    18 and 21, so the export does not use it.
    """
    groups, channels = module.num_groups, module.num_channels
    rows, per_channel = builder.constant([0, groups, -1], "int64"), builder.constant([0, channels, 1, 1], "int64")

    def mean_of_groups(values: str) -> Any:
        """(B, C, H, W) -> (B, groups, 1)."""
        of_rows = builder.node("Reshape", builder.node("ReduceMean", values, builder.constant([3], "int64")), rows)
        return builder.node("ReduceMean", of_rows, builder.constant([2], "int64"))

    mean = mean_of_groups(hidden.name)
    zeros = builder.constant(np.zeros(channels // groups))
    means = builder.node("Reshape", builder.node("Add", mean, zeros), per_channel)
    deviation = builder.node("Sub", hidden.name, means)
    variance = mean_of_groups(builder.node("Mul", deviation, deviation))
    spread = builder.node("Sqrt", builder.node("Add", variance, builder.constant(module.eps)))
    weight, bias = (builder.weight(f"{name}.{part}", (groups, channels // groups)) for part in ("weight", "bias"))
    scale = builder.node("Div", weight, spread)
    shift = builder.node("Sub", bias, builder.node("Mul", mean, scale))
    scaled = builder.node("Mul", hidden.name, builder.node("Reshape", scale, per_channel))
    return Value(builder.node("Add", scaled, builder.node("Reshape", shift, per_channel)))


def _layer_norm(builder: GraphBuilder, module: nn.LayerNorm, name: str, hidden: Value) -> Value:
    weights = (builder.weight(f"{name}.weight"), builder.weight(f"{name}.bias"))
    return Value(builder.node("LayerNormalization", hidden.name, *weights, axis=-1, epsilon=module.eps))


def _linear_module(builder: GraphBuilder, module: nn.Linear, name: str, hidden: Value) -> Value:
    weights = (Value(builder.weight(f"{name}.{part}")) for part in ("weight", "bias"))
    return linear(builder, hidden, *weights)


def _silu(builder: GraphBuilder, module: nn.SiLU, name: str, hidden: Value) -> Value:
    return Value(builder.node("Mul", hidden.name, builder.node("Sigmoid", hidden.name)))


def _gelu(builder: GraphBuilder, module: nn.GELU, name: str, hidden: Value) -> Value:
    erf = builder.node("Erf", builder.node("Div", hidden.name, builder.constant(np.sqrt(2.0))))
    half = builder.node("Mul", hidden.name, builder.constant(0.5))
    return Value(builder.node("Mul", half, builder.node("Add", erf, builder.constant(1.0))))


def _mish(builder: GraphBuilder, module: nn.Mish, name: str, hidden: Value) -> Value:
    gate = builder.node("Tanh", builder.node("Softplus", hidden.name))
    return Value(builder.node("Mul", hidden.name, gate))


def _relu(builder: GraphBuilder, module: nn.ReLU, name: str, hidden: Value) -> Value:
    return Value(builder.node("Relu", hidden.name))


def _attention(
    builder: GraphBuilder, module: ScaledDotProduct, name: str, query: Value, key: Value, value: Value
) -> Value:
    scaled = builder.node("Mul", query.name, builder.constant(module.scale))
    if module.kind == "sliced":
        return _sliced_attention(builder, module, scaled, key.name, value.name)
    if module.kind == "eager":
        return Value(_attend(builder, scaled, builder.node("Transpose", key.name, perm=(0, 2, 1)), value.name))
    # One head, (B, 1, N, C): engines recognise and fuse this form of multi-head attention.
    head = builder.constant([1], "int64")
    heads = [builder.node("Unsqueeze", tensor, head) for tensor in (scaled, key.name, value.name)]
    keys = builder.node("Transpose", heads[1], perm=(0, 1, 3, 2))
    return Value(builder.node("Squeeze", _attend(builder, heads[0], keys, heads[2]), head))


def _attend(builder: GraphBuilder, query: str, keys: str, value: str) -> str:
    weights = builder.node("Softmax", builder.node("MatMul", query, keys), axis=-1)
    return str(builder.node("MatMul", weights, value))


def _sliced_attention(builder: GraphBuilder, module: ScaledDotProduct, query: str, key: str, value: str) -> Value:
    # A Scan over slices of `step` queries. Zeros pad the last slice. The body reads keys and values of the outer graph.
    count = as_size_tensor(builder, Dimension(query, 1))
    step = builder.node("Min", builder.constant([module.queries_per_slice], "int64"), count)
    missing = builder.node("Mod", builder.node("Neg", count), step)  # as in Python, never negative
    nothing = builder.constant([0, 0, 0, 0], "int64")
    amounts = builder.node("Concat", nothing, missing, builder.constant([0], "int64"), axis=0)
    padded = builder.node("Pad", query, amounts)
    ends = (builder.constant([0, -1], "int64"), builder.constant([module.channels], "int64"))
    slices = builder.node("Reshape", padded, builder.node("Concat", ends[0], step, ends[1], axis=0))
    keys = builder.node("Transpose", key, perm=(0, 2, 1))
    start = builder.node_count
    piece = builder.unique("queries")
    attended = _attend(builder, piece, keys, value)
    body = builder.subgraph(start, "one_slice", [piece], [attended])
    results = builder.node("Scan", slices, body=body, num_scan_inputs=1, scan_input_axes=[1], scan_output_axes=[1])
    joined = builder.node("Reshape", results, builder.constant([0, -1, module.channels], "int64"))
    zero, axis = builder.constant([0], "int64"), builder.constant([1], "int64")
    return Value(builder.node("Slice", joined, zero, count, axis))


def _window(
    builder: GraphBuilder,
    module: StreamWindow,
    name: str,
    state: Value,
    chunk: Value,
    first: ComputedSize,
    last: ComputedSize,
) -> Value:
    # In front of the chunk stand the state's frames from `start` to the second. In a clip's first chunk, copies of the
    # chunk's first frame stand for them. Behind the last chunk of a non-causal stream stands its last frame again.
    two = builder.constant([2], "int64")
    offset, factor = (builder.constant([number], "int64") for number in module.head)
    start = builder.shared_node("Add", builder.shared_node("Mul", first.name, factor), offset)
    places = builder.shared_node("Slice", builder.constant([0, 1], "int64"), start, two, builder.constant([0], "int64"))
    places = builder.shared_node("Max", places, builder.shared_node("Mul", first.name, two))
    seen = builder.node("Concat", state.name, cut(builder, chunk.name, 0, 1, 2), axis=2)
    parts = [builder.node("Gather", seen, places, axis=2), chunk.name]
    if not module.causal:
        count = as_size_tensor(builder, Dimension(chunk.name, 2))
        parts.append(cut(builder, chunk.name, ComputedSize(builder.shared_node("Sub", count, last.name)), END, 2))
    return Value(builder.node("Concat", *parts, axis=2))


def _delayed(
    builder: GraphBuilder, module: Delayed, name: str, joined: Value, first: ComputedSize, last: ComputedSize
) -> Value:
    offset, frames = (builder.constant([number], "int64") for number in (2 - module.frames, module.frames))
    start = builder.shared_node("Add", builder.shared_node("Mul", first.name, frames), offset)
    count = builder.shared_node("Sub", as_size_tensor(builder, Dimension(joined.name, 2)), frames)
    end = builder.shared_node("Add", count, builder.shared_node("Mul", last.name, frames))
    return Value(cut(builder, joined.name, ComputedSize(start), ComputedSize(end), 2))


def linear(builder: GraphBuilder, hidden: Value, weight: Value, bias: Value) -> Value:
    """Add the nodes of a linear layer: hidden (..., in), weight (out, in), bias (out,) -> (..., out)."""
    # The weight keeps its stored layout (out, in). Engines fold the transposition when they load the graph.
    product = builder.node("MatMul", hidden.name, builder.node("Transpose", weight.name, perm=(1, 0)))
    return Value(builder.node("Add", product, bias.name))


MODULES: dict[type[nn.Module], Callable[..., Value]] = {
    nn.Conv2d: _conv,
    nn.Conv3d: _conv,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
    nn.Linear: _linear_module,
    nn.SiLU: _silu,
    nn.GELU: _gelu,
    nn.Mish: _mish,
    nn.ReLU: _relu,
    ScaledDotProduct: _attention,
    StreamWindow: _window,
    Delayed: _delayed,
    Upsample: _upsample,
}
