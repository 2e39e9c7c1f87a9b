"""A 3x3 convolution of a picture after doubling (nearest neighbour), as four 2x2 convolutions before doubling.

A 3x3 window on the doubled picture covers only two different rows and two different columns of the small picture. So
the results on even and odd rows and columns (the four phases) are four convolutions of the small picture, with sums of
the 3x3 weights as their weights. Interleaving the phases gives the doubled picture. This takes 4/9 of the
multiplications and gives the same numbers up to rounding.

The form is for ONNX Runtime on a CPU, where it takes 0.45 to 0.5 of the time (benchmarks/profile.md).
"""

import numpy as np

from ...runtime.backends.doubling import PHASE_TAPS
from .graph import GraphBuilder
from .sizes import END, Dimension, Value, as_size_tensor, cut

__all__ = ["doubling_convolution"]


def doubling_convolution(
    builder: GraphBuilder, weight: str, bias: str | None, hidden: Value, *, surrounded: bool
) -> Value:
    """Add the nodes of a doubling and its 3x3 convolution: hidden (B, C, H, W) -> (B, O, 2 H, 2 W).

    Args:
        builder: the graph.
        weight: name of the weight (O, C, 3, 3) in the weights file.
        bias: graph value (O,), or None.
        hidden: the input.
        surrounded: True if hidden has one more row and column at each side, (B, C, H + 2, W + 2). False pads the
            doubled picture with zeros.
    """
    rows = []
    for down in (0, 1):
        columns = []
        for across in (0, 1):
            pads = (0,) * 4 if surrounded else (1 - down, 1 - across, down, across)
            source = _shifted(builder, hidden.name, down, across) if surrounded else hidden.name
            inputs = [source, _kernel(builder, weight, down, across), *([] if bias is None else [bias])]
            phase = builder.node("Conv", *inputs, kernel_shape=(2, 2), pads=pads)
            columns.append(builder.node("Unsqueeze", phase, builder.constant([4], "int64")))
        interleaved = builder.node("Concat", *columns, axis=4)
        joined = builder.node("Reshape", interleaved, builder.constant([0, 0, 0, -1], "int64"))
        rows.append(builder.node("Unsqueeze", joined, builder.constant([3], "int64")))
    width = as_size_tensor(builder, Dimension(joined, 3))
    shape = builder.node("Concat", builder.constant([0, 0, -1], "int64"), width, axis=0)
    return Value(builder.node("Reshape", builder.node("Concat", *rows, axis=3), shape))


def _kernel(builder: GraphBuilder, weight: str, down: int, across: int) -> str:
    """Add the nodes of one phase's kernel (O, C, 2, 2), which engines compute when they load the graph.

    All four kernels come from one product: millions of products of 3x3 matrices take a quarter of a second per layer.
    """
    shape = builder.weight_shape(weight)
    taps = np.stack([np.kron(PHASE_TAPS[a], PHASE_TAPS[b]) for a in (0, 1) for b in (0, 1)])  # (4, 2 * 2, 3 * 3)
    flat = builder.weight(weight, (shape[0] * shape[1], 9))
    kernels = builder.shared_node("MatMul", flat, builder.constant(taps.reshape(16, 9).T))
    first = 4 * (2 * down + across)
    own = cut(builder, kernels, first, first + 4, 1)
    return str(builder.node("Reshape", own, builder.constant([*shape[:2], 2, 2], "int64")))


def _shifted(builder: GraphBuilder, hidden: str, down: int, across: int) -> str:
    """Cut off the last row (`down` 0) or the first (`down` 1), and likewise a column."""
    rows = cut(builder, hidden, down, -1 + down or END, 2)
    return cut(builder, rows, across, -1 + across or END, 3)
