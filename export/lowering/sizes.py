"""What flows through a lowering: tensors by name, and sizes that are only known when the graph runs."""

from dataclasses import dataclass

import numpy as np

from .graph import GraphBuilder

__all__ = ["END", "Dimension", "Shape", "Size", "Value", "Whole", "as_size_tensor", "cut"]

END = np.iinfo(np.int64).max
"""Of an axis, whatever its length."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph; `weight` is its name in the weights file where it is one."""

    name: str
    weight: str | None = None


@dataclass(frozen=True)
class Size:
    """A whole number that the graph computes, as an int64 tensor of shape (1,)."""

    name: str


@dataclass(frozen=True)
class Dimension:
    """The size of one axis of a tensor, read from the graph only where it has to be."""

    tensor: str
    axis: int


@dataclass(frozen=True)
class Shape:
    """All sizes of a tensor."""

    tensor: str

    def __getitem__(self, axis: int) -> Dimension:
        return Dimension(self.tensor, axis)


Whole = int | Size | Dimension
"""A whole number, known now or when the graph runs."""


def as_size_tensor(builder: GraphBuilder, size: Whole) -> str:
    """The int64 tensor of shape (1,) that holds `size`."""
    if isinstance(size, Size):
        return size.name
    if isinstance(size, Dimension):
        return builder.shared_node("Shape", size.tensor, start=size.axis, end=size.axis + 1)
    return builder.constant([size], "int64")


def cut(builder: GraphBuilder, tensor: str, start: Whole, end: Whole, axis: int) -> str:
    """Of a tensor the elements from `start` up to `end` along an axis."""
    bounds = (as_size_tensor(builder, bound) for bound in (start, end, axis))
    return str(builder.node("Slice", tensor, *bounds))
