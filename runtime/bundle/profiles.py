"""The sizes that engines were built for: an engine has several profiles, and a call runs in one of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from ..errors import InputError

__all__ = ["EngineKind", "Profile", "ShapeRange", "choose_profile", "sizes_of"]

Shape = tuple[int, ...]
EngineKind = Literal["whole", "stream", "exact"]
"""What an engine's graph is for: a whole sample at once, a stream, or ("exact") strips."""

_CURES: dict[EngineKind, str] = {
    "whole": "decode in tiles, or build for this size with `latentrt build --tile`",
    "stream": "stream in tiles, or build for this size with `latentrt build --stream --tile HEIGHTxWIDTH`",
    "exact": "build for this size with `latentrt build --strips --tile HEIGHTxWIDTH --picture HEIGHTxWIDTH`",
}


@dataclass(frozen=True)
class ShapeRange:
    """The smallest, the best supported and the largest shape of one input."""

    minimum: Shape
    optimum: Shape
    maximum: Shape

    def holds(self, shape: Sequence[int]) -> bool:
        return len(shape) == len(self.minimum) and all(
            low <= size <= high for low, size, high in zip(self.minimum, shape, self.maximum, strict=True)
        )


@dataclass(frozen=True)
class Profile:
    """A range per input, by its name: of its shape, or of its values if they are whole numbers that decide sizes."""

    ranges: Mapping[str, ShapeRange]

    @property
    def is_static(self) -> bool:
        return all(of.minimum == of.maximum for of in self.ranges.values())

    def holds(self, shapes: Mapping[str, Sequence[int]]) -> bool:
        return self.ranges.keys() == shapes.keys() and all(self.ranges[name].holds(shapes[name]) for name in shapes)

    def to_json(self) -> dict[str, Any]:
        return {
            name: {"min": list(of.minimum), "opt": list(of.optimum), "max": list(of.maximum)}
            for name, of in self.ranges.items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        return cls(
            {name: ShapeRange(*(_shape(of[key]) for key in ("min", "opt", "max"))) for name, of in values.items()}
        )

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {_text(of.minimum)} to {_text(of.maximum)}"
            if of.minimum != of.maximum
            else f"{name} {_text(of.minimum)}"
            for name, of in self.ranges.items()
        )


def choose_profile(profiles: Sequence[Profile], shapes: Mapping[str, Sequence[int]], kind: EngineKind = "whole") -> int:
    """The index of the profile that a call runs in.

    Several profiles may hold the shapes. The profile with the smallest maximum wins, because it takes the least memory.
    Among equal ones the nearest optimum wins, for which the library chose its kernels; then the largest minimum; then
    the first profile.

    Args:
        profiles: of one engine.
        shapes: the shape of each input, or the values of an input of whole numbers.
        kind: of the engine, for the message.

    Raises:
        InputError: no profile holds the shapes; the message holds them and the sizes that the engine takes.
    """
    fitting = [index for index, profile in enumerate(profiles) if profile.holds(shapes)]
    if not fitting:
        given = ", ".join(f"{name} {_text(shape)}" for name, shape in shapes.items())
        takes = "; or ".join(dict.fromkeys(map(str, profiles)))
        raise InputError(f"the engine was built for {takes}, and this call has {given}: {_CURES[kind]}")

    def distance(index: int) -> tuple[int, float, int]:
        ranges = profiles[index].ranges
        largest = sum(math.prod(of.maximum) for of in ranges.values())
        smallest = sum(math.prod(of.minimum) for of in ranges.values())
        return largest, sum(_apart(ranges[name].optimum, shapes[name]) for name in ranges), -smallest

    return min(fitting, key=distance)


def sizes_of(inputs: Mapping[str, Any]) -> dict[str, Shape]:
    """The sizes of inputs as profiles count them: shapes, and the values of whole numbers, which decide sizes."""

    def size(array: Any) -> Shape:
        decides_sizes = isinstance(array, np.ndarray) and array.dtype.kind == "i"
        return tuple(map(int, array)) if decides_sizes else tuple(array.shape)

    return {name: size(array) for name, array in inputs.items()}


def _apart(one: Sequence[int], other: Sequence[int]) -> float:
    """The distance of two shapes: the logarithms of the ratios of their axes, summed. Values may be 0."""
    return sum(abs(math.log((a + 1) / (b + 1))) for a, b in zip(one, other, strict=True))


def _shape(values: Sequence[Any]) -> Shape:
    if not all(type(size) is int for size in values):
        raise ValueError(f"not a shape: {values}")
    return tuple(values)


def _text(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})" if len(shape) > 1 else str(shape[0]) if shape else "()"
