"""3x3x3 convolutions written as 2-D ones over single frames: each frame of the result is a 2-D convolution over the
channels of the three frames that it sees, one after the other. The multiplications are the same.

For ONNX Runtime on a CPU, which runs 2-D convolutions in a blocked layout and unfolds 3-D ones to matrix products: the
2-D form takes 0.6 to 0.87 of the time, its moves included (benchmarks/profile.md). TensorRT and OpenVINO have kernels
for the 3-D form. The widest layers stay 3-D: the blocked layout holds weights once more, and theirs, most of the file,
stay mapped from it.
"""

from torch import nn

from .graph import GraphBuilder
from .sizes import Dimension, Value, as_size_tensor

__all__ = ["is_planar", "planar_convolution"]

_TAPS = (3, 3, 3)
_MOST_CHANNELS = 512


def is_planar(module: nn.Module) -> bool:
    """Whether a convolution has the 2-D form."""
    return (
        isinstance(module, nn.Conv3d)
        and (module.kernel_size, module.stride, module.groups) == (_TAPS, (1, 1, 1), 1)
        and module.padding == (0, 1, 1)
        and module.in_channels <= _MOST_CHANNELS
    )


def planar_convolution(builder: GraphBuilder, module: nn.Conv3d, name: str, hidden: Value) -> Value:
    """Nodes for hidden (B, C, T + 2, H, W) -> (B, O, T, H, W)."""
    source, padding = hidden.name, 1
    if module.padding_mode == "reflect":
        amounts = builder.constant([0, 0, 0, 1, 1, 0, 0, 0, 1, 1], "int64")
        source, padding = builder.node("Pad", source, amounts, mode="reflect"), 0
    batch, frames = Dimension(hidden.name, 0), Dimension(hidden.name, 2)
    size, padded = ((Dimension(tensor, 3), Dimension(tensor, 4)) for tensor in (hidden.name, source))
    planes = _reshaped(builder, source, batch, -1, *padded)  # (B, C * (T + 2), H, W): every frame of every channel
    seen = builder.node("Gather", planes, _seen(builder, module.in_channels, frames), axis=1)  # (B, T, C * 3, H, W)
    weight = builder.weight(f"{name}.weight", (module.out_channels, 3 * module.in_channels, 3, 3))
    bias = [] if module.bias is None else [builder.weight(f"{name}.bias")]
    one_by_one = _reshaped(builder, seen, -1, 3 * module.in_channels, *padded)
    result = builder.node("Conv", one_by_one, weight, *bias, kernel_shape=(3, 3), pads=(padding,) * 4)
    clip = _reshaped(builder, result, batch, -1, module.out_channels, *size)
    return Value(builder.node("Transpose", clip, perm=(0, 2, 1, 3, 4)))


def _seen(builder: GraphBuilder, channels: int, frames: Dimension) -> str:
    """(T, channels * 3): which of `channels * frames` planes each frame of the result sees, in the order of a weight
    (O, channels, 3, 3, 3)."""
    count = as_size_tensor(builder, frames)
    results = builder.shared_node("Sub", count, builder.constant([2], "int64"))
    begin, step, three = (builder.constant(number, "int64") for number in (0, 1, 3))
    first = builder.shared_node("Range", begin, builder.shared_node("Squeeze", results), step)
    column = builder.shared_node("Unsqueeze", first, builder.constant([1], "int64"))
    order = builder.shared_node("Range", begin, builder.constant(3 * channels, "int64"), step)
    channel, tap = (builder.shared_node(operator, order, three) for operator in ("Div", "Mod"))
    plane = builder.shared_node("Add", builder.shared_node("Mul", channel, count), tap)
    return builder.shared_node("Add", column, plane)


def _reshaped(builder: GraphBuilder, tensor: str, *sizes: int | Dimension) -> str:
    shape = builder.shared_node("Concat", *(as_size_tensor(builder, size) for size in sizes), axis=0)
    return str(builder.node("Reshape", tensor, shape))
