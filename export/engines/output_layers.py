"""Layers after a parsed network's result: pixels, and the number of values that are not finite.

These layers are the library's own layers and not part of the ONNX graph. So every bundle gets them, also a bundle of an
earlier version, and one engine call gives all outputs without a kernel of ours. None of the layers has weights, since
the library's ONNX refitter must find every weight of an engine in its graph.
"""

from collections.abc import Sequence
from typing import Any

from ...runtime.bundle.ports import NOT_FINITE, PIXELS

__all__ = ["add_outputs"]


def add_outputs(network: Any, library: Any, names: Sequence[str]) -> None:
    """Add outputs to a network: those named, computed from the network's first output, (B, C, ...)."""
    result = network.get_output(0)
    made = {PIXELS: _pixels, NOT_FINITE: _not_finite}
    for name in names:
        output = made[name](network, library, result)
        output.name = name
        network.mark_output(output)


def _pixels(network: Any, library: Any, result: Any) -> Any:
    """(x + 1) * 127.5, clipped to [0, 255] and rounded half to even, as runtime/arrays/pixels.py computes it.

    x / 2 + 1 / 2, clipped to [0, 1], times 255 gives the same in float32, since halves are exact.
    """
    of = library.ActivationType
    unit = network.add_activation(result, of.HARD_SIGMOID)  # max(0, min(1, alpha * x + beta))
    unit.alpha, unit.beta = 0.5, 0.5
    scaled = network.add_activation(unit.get_output(0), of.SELU)  # beta * x if x > 0, else 0, since alpha is 0
    scaled.alpha, scaled.beta = 0.0, 255.0
    rounded = network.add_unary(scaled.get_output(0), library.UnaryOperation.ROUND).get_output(0)
    moved = network.add_shuffle(rounded)
    moved.first_transpose = (0, *range(2, len(result.shape)), 1)
    return network.add_cast(moved.get_output(0), library.DataType.UINT8).get_output(0)


def _not_finite(network: Any, library: Any, result: Any) -> Any:
    """The number of values that are NaN or infinite. (A maximum is not enough: it may ignore NaN.)"""
    of = library.UnaryOperation
    nan, infinite = (network.add_unary(result, one).get_output(0) for one in (of.ISNAN, of.ISINF))
    either = network.add_elementwise(nan, infinite, library.ElementWiseOperation.OR).get_output(0)
    ones = network.add_cast(either, library.DataType.FLOAT).get_output(0)
    axes = (1 << len(result.shape)) - 1
    return network.add_reduce(ones, library.ReduceOperation.SUM, axes, False).get_output(0)
