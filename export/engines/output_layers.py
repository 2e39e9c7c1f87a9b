"""Layers behind a parsed network's result: pixels, and whether it is finite.

They are written with the library's own layers and not as an ONNX graph: so every bundle gets them, whatever its
export, and one engine gives all of its outputs in one call, without a kernel of ours. None of them has weights: the
library's ONNX refitter wants to find every weight of an engine in its graph.
"""

from collections.abc import Sequence
from typing import Any

from ...runtime.bundle.ports import NOT_FINITE, PIXELS

__all__ = ["add_outputs"]


def add_outputs(network: Any, library: Any, names: Sequence[str]) -> None:
    """Add those outputs behind the network's first one, (B, C, ...)."""
    result = network.get_output(0)
    made = {PIXELS: _pixels, NOT_FINITE: _not_finite}
    for name in names:
        output = made[name](network, library, result)
        output.name = name
        network.mark_output(output)


def _pixels(network: Any, library: Any, result: Any) -> Any:
    """(x + 1) * 127.5, clipped to [0, 255], rounded half to even, as runtime/arrays/pixels.py does it. It is
    the same in float32 as x / 2 + 1 / 2, clipped to [0, 1], times 255, since halves are exact."""
    of = library.ActivationType
    unit = network.add_activation(result, of.HARD_SIGMOID)  # max(0, min(1, alpha * x + beta))
    unit.alpha, unit.beta = 0.5, 0.5
    scaled = network.add_activation(unit.get_output(0), of.SELU)  # beta * x where x > 0, else 0 since alpha is
    scaled.alpha, scaled.beta = 0.0, 255.0
    rounded = network.add_unary(scaled.get_output(0), library.UnaryOperation.ROUND).get_output(0)
    moved = network.add_shuffle(rounded)
    moved.first_transpose = (0, *range(2, len(result.shape)), 1)
    return network.add_cast(moved.get_output(0), library.DataType.UINT8).get_output(0)


def _not_finite(network: Any, library: Any, result: Any) -> Any:
    """The number of values that are NaN or infinite. (A maximum would not do: it may pass over NaN.)"""
    of = library.UnaryOperation
    nan, infinite = (network.add_unary(result, one).get_output(0) for one in (of.ISNAN, of.ISINF))
    either = network.add_elementwise(nan, infinite, library.ElementWiseOperation.OR).get_output(0)
    ones = network.add_cast(either, library.DataType.FLOAT).get_output(0)
    axes = (1 << len(result.shape)) - 1
    return network.add_reduce(ones, library.ReduceOperation.SUM, axes, False).get_output(0)
