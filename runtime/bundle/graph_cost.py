"""What one run of a graph takes, as formulas in its size. The exporter derives them from the graph.

A formula is a text such as "96 b h w + 8 b h + 4": b is the batch size, t the number of frames that go in, h and w are
latent cells of height and width, and h^2 is a power. The frames of a graph of whole clips are latent frames.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from ...tiling.plain_text import shown

__all__ = ["Formula", "GraphCost", "GraphSize", "read_costs", "write_costs"]

_LETTERS = "bthw"
_TERM = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,9})?(?: [bthw](?:\^[2-4])?){0,4}")
_MOST_CHARACTERS = 4096  # of a formula; the longest of the exported ones has 300
_MOST_FORMULAS = 64  # of one graph's live values; the exported ones have up to 20


@dataclass(frozen=True)
class GraphSize:
    """The size of one run of a graph.

    Attributes:
        batch: the batch size.
        frames: the frames that go in. Graphs of pictures have 1.
        height, width: in latent cells.
    """

    batch: int
    frames: int
    height: int
    width: int


@dataclass(frozen=True)
class Formula:
    """A polynomial in the size of a run.

    Attributes:
        text: the polynomial, in the form that the module describes.
    """

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or len(self.text) > _MOST_CHARACTERS:
            raise ValueError(f"{shown(self.text)} is no formula")
        if not all(map(_TERM.fullmatch, self.text.split(" + "))):
            raise ValueError(f"{shown(self.text)} is no formula")

    @classmethod
    def of(cls, terms: Mapping[tuple[int, int, int, int], float]) -> Self:
        """A formula of coefficients, by the powers of b, t, h and w."""
        parts = []
        for powers, coefficient in sorted(terms.items(), reverse=True):
            if coefficient:
                letters = (_power(*pair) for pair in zip(_LETTERS, powers, strict=True))
                number = f"{coefficient:.6f}".rstrip("0").rstrip(".")
                parts.append(" ".join(filter(None, [number, *letters])))
        return cls(" + ".join(parts) or "0")

    def at(self, size: GraphSize) -> float:
        """The value at a size."""
        axes = size.batch, size.frames, size.height, size.width
        total = 0.0
        for coefficient, powers in self._terms:
            for axis, power in zip(axes, powers, strict=True):
                coefficient *= float(axis) ** power
            total += coefficient
        return total

    @cached_property
    def _terms(self) -> tuple[tuple[float, tuple[int, ...]], ...]:
        found = []
        for term in self.text.split(" + "):
            number, *letters = term.split(" ")
            powers = dict.fromkeys(_LETTERS, 0)
            for letter in letters:
                powers[letter[0]] += int(letter[2:] or 1)
            found.append((float(number), tuple(powers.values())))
        return tuple(found)


@dataclass(frozen=True)
class GraphCost:
    """What one run of a graph takes.

    Attributes:
        live: the values of all tensors that are alive at one step of the graph, weights not counted, for each step that
            is the largest at some size. The inputs are alive throughout, and the results from their step on.
        fused: the same for engines that never hold the scores of attention.
        multiplications: of all convolutions and matrix products.
        written: the values that all steps write.
    """

    live: tuple[Formula, ...]
    fused: tuple[Formula, ...]
    multiplications: Formula
    written: Formula

    def live_values(self, size: GraphSize, *, fused: bool = False) -> float:
        """The most values that are alive at once."""
        return max(formula.at(size) for formula in (self.fused if fused else self.live))

    def to_json(self) -> dict[str, Any]:
        return {
            "live": [formula.text for formula in self.live],
            "fused": [formula.text for formula in self.fused],
            "multiplications": self.multiplications.text,
            "written": self.written.text,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError if a field is missing or of the wrong kind."""
        live, fused = _formulas(values["live"]), _formulas(values["fused"])
        return cls(live, fused, Formula(values["multiplications"]), Formula(values["written"]))


def read_costs(values: Mapping[str, Any]) -> dict[str, GraphCost]:
    """The costs of graphs from their JSON form, by the name of the ONNX file.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: a field is missing or of the wrong kind.
    """
    return {file: GraphCost.from_json(cost) for file, cost in values.items()}


def write_costs(costs: Mapping[str, GraphCost]) -> dict[str, Any]:
    """The JSON form of `read_costs`."""
    return {file: cost.to_json() for file, cost in costs.items()}


def _formulas(texts: Sequence[str]) -> tuple[Formula, ...]:
    if not isinstance(texts, list) or not 1 <= len(texts) <= _MOST_FORMULAS:
        raise ValueError("the live values of a graph are no list of formulas")
    return tuple(map(Formula, texts))


def _power(letter: str, power: int) -> str:
    return "" if power == 0 else letter if power == 1 else f"{letter}^{power}"
