"""Layers behind a parsed network's result: pixels, and whether it is finite.

They are written with the library's own layers and not as an ONNX graph: so every bundle gets them, whatever its
export, and one engine gives all of its outputs in one call, without a kernel of ours.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...runtime.added_outputs import NOT_FINITE, PIXELS

__all__ = ["add_outputs"]


def add_outputs(network: Any, library: Any, names: Sequence[str]) -> list[Any]:
    """Add those outputs behind the network's first one, (B, C, ...). Returns what has to live until it is built."""
    result = network.get_output(0)
    constants: list[Any] = []
    made = {PIXELS: _pixels, NOT_FINITE: _not_finite}
    for name in names:
        output = made[name](network, library, result, constants)
        output.name = name
        network.mark_output(output)
    return constants


def _pixels(network: Any, library: Any, result: Any, constants: list[Any]) -> Any:
    """(x + 1) * 127.5, clipped to [0, 255], rounded half to even: as runtime/pixels.py does it."""
    rank = len(result.shape)

    def constant(value: float) -> Any:
        constants.append(np.full((1,) * rank, value, np.float32))
        return network.add_constant((1,) * rank, library.Weights(constants[-1])).get_output(0)

    operation = library.ElementWiseOperation
    shifted = network.add_elementwise(result, constant(1.0), operation.SUM).get_output(0)
    scaled = network.add_elementwise(shifted, constant(127.5), operation.PROD).get_output(0)
    clip = network.add_activation(scaled, library.ActivationType.CLIP)
    clip.alpha, clip.beta = 0.0, 255.0
    rounded = network.add_unary(clip.get_output(0), library.UnaryOperation.ROUND).get_output(0)
    moved = network.add_shuffle(rounded)
    moved.first_transpose = (0, *range(2, rank), 1)
    return network.add_cast(moved.get_output(0), library.DataType.UINT8).get_output(0)


def _not_finite(network: Any, library: Any, result: Any, constants: list[Any]) -> Any:
    """The number of values that are NaN or infinite. (A maximum would not do: it may pass over NaN.)"""
    of = library.UnaryOperation
    nan, infinite = (network.add_unary(result, one).get_output(0) for one in (of.ISNAN, of.ISINF))
    either = network.add_elementwise(nan, infinite, library.ElementWiseOperation.OR).get_output(0)
    ones = network.add_cast(either, library.DataType.FLOAT).get_output(0)
    axes = (1 << len(result.shape)) - 1
    return network.add_reduce(ones, library.ReduceOperation.SUM, axes, False).get_output(0)
