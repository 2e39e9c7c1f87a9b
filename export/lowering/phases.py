"""A 3x3 convolution after doubling height and width (nearest neighbour), written as four 2x2 convolutions before it.

Of a doubled picture, a 3x3 window sees two rows and two columns only, one of them twice. So the results on even and odd
rows and columns are four convolutions of the small picture, whose weights are sums of the 3x3 ones, and then stand side
by side: 4/9 of the multiplications, the same numbers up to rounding.

For ONNX Runtime on a CPU (0.45 to 0.5 of the time, benchmarks/profile.md).
"""

import numpy as np

from ...runtime.backends.doubling import PHASE_TAPS
from .graph import GraphBuilder
from .sizes import END, Dimension, Value, as_size_tensor, cut

__all__ = ["doubling_convolution"]


def doubling_convolution(
    builder: GraphBuilder, weight: str, bias: str | None, hidden: Value, *, surrounded: bool
) -> Value:
    """Nodes for hidden (B, C, H, W) -> (B, O, 2 H, 2 W), with zeros around it; `surrounded`: hidden brings one row and
    column more at each side instead. `weight`: its name in the weights file."""
    rows = []
    for down in (0, 1):
        columns = []
        for across in (0, 1):
            pads = (0,) * 4 if surrounded else (1 - down, 1 - across, down, across)
            source = _shifted(builder, hidden.name, down, across) if surrounded else hidden.name
            inputs = [source, _kernel(builder, weight, down, across), *([] if bias is None else [bias])]
            phase = builder.node("Conv", *inputs, kernel_shape=(2, 2), pads=pads)
            columns.append(builder.node("Unsqueeze", phase, builder.constant([4], "int64")))
        beside = builder.node("Concat", *columns, axis=4)
        joined = builder.node("Reshape", beside, builder.constant([0, 0, 0, -1], "int64"))
        rows.append(builder.node("Unsqueeze", joined, builder.constant([3], "int64")))
    width = as_size_tensor(builder, Dimension(joined, 3))
    shape = builder.node("Concat", builder.constant([0, 0, -1], "int64"), width, axis=0)
    return Value(builder.node("Reshape", builder.node("Concat", *rows, axis=3), shape))


def _kernel(builder: GraphBuilder, weight: str, down: int, across: int) -> str:
    """(O, C, 2, 2); engines compute it when they load: all four kernels as one product, since millions of products of
    3x3 matrices take a quarter of a second a layer."""
    shape = builder.weight_shape(weight)
    taps = np.stack([np.kron(PHASE_TAPS[a], PHASE_TAPS[b]) for a in (0, 1) for b in (0, 1)])  # (4, 2 * 2, 3 * 3)
    flat = builder.weight(weight, (shape[0] * shape[1], 9))
    kernels = builder.shared_node("MatMul", flat, builder.constant(taps.reshape(16, 9).T))
    first = 4 * (2 * down + across)
    own = cut(builder, kernels, first, first + 4, 1)
    return str(builder.node("Reshape", own, builder.constant([*shape[:2], 2, 2], "int64")))


def _shifted(builder: GraphBuilder, hidden: str, down: int, across: int) -> str:
    """Without the last row, or the first; likewise the columns."""
    rows = cut(builder, hidden, down, -1 + down or END, 2)
    return cut(builder, rows, across, -1 + across or END, 3)
