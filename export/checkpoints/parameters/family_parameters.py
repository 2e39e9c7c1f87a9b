"""The parameters of a family's models, known without torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .shapes import Shapes

__all__ = ["FamilyParameters"]


def _unknown(config: Any) -> str:
    return ""


@dataclass(frozen=True)
class FamilyParameters:
    """The parameters of one family's models.

    Attributes:
        shapes: returns the shape of every parameter and buffer of a config's model, by its diffusers name.
        statistics: fields of the config for the buffers that hold statistics of the latents, by name of the buffer.
        published: returns the name of the published model that has the numbers of a config, or "".
    """

    shapes: Callable[[Any], Shapes]
    statistics: Mapping[str, str] = field(default_factory=dict)
    published: Callable[[Any], str] = _unknown
