"""3x3x3 convolutions of clips as 2-D convolutions of frames.

Each frame of the result is a 2-D convolution over the channels of three frames. The multiplications are the same.

The form is for ONNX Runtime on a CPU, which runs 2-D convolutions in a blocked layout and unfolds 3-D convolutions to
matrix products. The 2-D form takes 0.6 to 0.87 of the time, including the moves of data (benchmarks/profile.md).
TensorRT and OpenVINO have kernels for the 3-D form. The widest layers stay 3-D: the blocked layout holds a second copy
of the weights, and the weights of the widest layers are most of the file. In the 3-D form they stay mapped from it.
"""

from torch import nn

from .graph import GraphBuilder
from .sizes import Dimension, Value, as_size_tensor

__all__ = ["is_planar", "planar_convolution"]

_KERNEL_SIZE = (3, 3, 3)
_MAX_CHANNELS = 512  # input channels above which a layer stays 3-D


def is_planar(module: nn.Module) -> bool:
    """Return True if a convolution has a 2-D form."""
    return (
        isinstance(module, nn.Conv3d)
        and (module.kernel_size, module.stride, module.groups) == (_KERNEL_SIZE, (1, 1, 1), 1)
        and module.padding == (0, 1, 1)
        and module.in_channels <= _MAX_CHANNELS
    )


def planar_convolution(builder: GraphBuilder, module: nn.Conv3d, name: str, hidden: Value) -> Value:
    """Add the nodes of a convolution: hidden (B, C, T + 2, H, W) -> (B, O, T, H, W).

    Args:
        builder: the graph.
        module: a convolution for which `is_planar` is True.
        name: path of the module, and prefix of its weights' names.
        hidden: the input.
    """
    source, padding = hidden.name, 1
    if module.padding_mode == "reflect":
        amounts = builder.constant([0, 0, 0, 1, 1, 0, 0, 0, 1, 1], "int64")
        source, padding = builder.node("Pad", source, amounts, mode="reflect"), 0
    batch, frames = Dimension(hidden.name, 0), Dimension(hidden.name, 2)
    size, padded = ((Dimension(tensor, 3), Dimension(tensor, 4)) for tensor in (hidden.name, source))
    planes = _reshaped(builder, source, batch, -1, *padded)  # (B, C * (T + 2), H, W): every frame of every channel
    indices = _plane_indices(builder, module.in_channels, frames)
    windows = builder.node("Gather", planes, indices, axis=1)  # (B, T, C * 3, H, W)
    weight = builder.weight(f"{name}.weight", (module.out_channels, 3 * module.in_channels, 3, 3))
    bias = [] if module.bias is None else [builder.weight(f"{name}.bias")]
    pictures = _reshaped(builder, windows, -1, 3 * module.in_channels, *padded)
    result = builder.node("Conv", pictures, weight, *bias, kernel_shape=(3, 3), pads=(padding,) * 4)
    clip = _reshaped(builder, result, batch, -1, module.out_channels, *size)
    return Value(builder.node("Transpose", clip, perm=(0, 2, 1, 3, 4)))


def _plane_indices(builder: GraphBuilder, channels: int, frames: Dimension) -> str:
    """Indices (T, channels * 3) of the planes that each frame of the result needs, among `channels * frames` planes.

    Their order is that of a weight (O, channels, 3, 3, 3).
    """
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
