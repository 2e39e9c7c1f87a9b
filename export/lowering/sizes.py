"""The values of a lowering: tensors by name, and sizes that are known only when the graph runs."""

from dataclasses import dataclass

import numpy as np

from .graph import GraphBuilder

__all__ = ["END", "ComputedShape", "ComputedSize", "Dimension", "Value", "Whole", "as_size_tensor", "cut"]

END = np.iinfo(np.int64).max
"""End of a slice that reaches to the end of its axis."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph.

    Attributes:
        name: name of the graph value.
        weight: name in the weights file if the tensor is a weight, else None.
    """

    name: str
    weight: str | None = None


@dataclass(frozen=True)
class ComputedSize:
    """A whole number that the graph computes.

    Attributes:
        name: name of its graph value, an int64 tensor of shape (1,).
    """

    name: str


@dataclass(frozen=True)
class Dimension:
    """The size of one axis of a tensor. A node reads it only if an operation needs it.

    Attributes:
        tensor: name of the graph value.
        axis: index of the axis.
    """

    tensor: str
    axis: int


@dataclass(frozen=True)
class ComputedShape:
    """All sizes of a tensor.

    Attributes:
        tensor: name of the graph value.
    """

    tensor: str

    def __getitem__(self, axis: int) -> Dimension:
        return Dimension(self.tensor, axis)


Whole = int | ComputedSize | Dimension
"""A whole number that is known now, or when the graph runs."""


def as_size_tensor(builder: GraphBuilder, size: Whole) -> str:
    """Return the name of an int64 tensor of shape (1,) that holds `size`."""
    if isinstance(size, ComputedSize):
        return size.name
    if isinstance(size, Dimension):
        return builder.shared_node("Shape", size.tensor, start=size.axis, end=size.axis + 1)
    return builder.constant([size], "int64")


def cut(builder: GraphBuilder, tensor: str, start: Whole, end: Whole, axis: int) -> str:
    """Add the slice of a tensor from `start` up to `end` (exclusive) along an axis, and return its name."""
    bounds = (as_size_tensor(builder, bound) for bound in (start, end, axis))
    return str(builder.node("Slice", tensor, *bounds))
