"""A tensor while a graph is followed: its shape, its value if it holds sizes, and the edges of what it depends on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import LatentRTError
from .edges import Edges

__all__ = ["Tensor", "UnknownOperator", "WrongLength"]


class UnknownOperator(LatentRTError):
    """A graph has an operator whose rule is not known, so the graph cannot be cut."""


class WrongLength(LatentRTError):
    """A graph does not run at these lengths."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor at one size.

    Attributes:
        shape: its shape.
        value: its value, if it is known: sizes, indices and small constants. None for activations and weights.
        edges: by axis of the sources ("frames", "height", "width"), what the tensor depends on. Empty for tensors that
            depend on no position.
    """

    shape: tuple[int, ...]
    value: NDArray[Any] | None = None
    edges: Mapping[str, Edges] = field(default_factory=dict)

    @classmethod
    def of_value(cls, value: Any) -> "Tensor":
        """A tensor whose value is known."""
        array = np.asarray(value)
        return cls(array.shape, array)
