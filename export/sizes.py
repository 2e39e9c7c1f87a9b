"""What flows through a lowering: tensors by name, and sizes that are only known when the graph runs."""

from dataclasses import dataclass

from .graph import GraphBuilder

__all__ = ["Dimension", "Shape", "Size", "Value", "as_size_tensor"]


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


def as_size_tensor(builder: GraphBuilder, size: "int | Size | Dimension") -> str:
    """The int64 tensor of shape (1,) that holds `size`."""
    if isinstance(size, Size):
        return size.name
    if isinstance(size, Dimension):
        return builder.shared_node("Shape", size.tensor, start=size.axis, end=size.axis + 1)
    return builder.constant([size], "int64")
