"""What the exporter knows about the parameters of one family, without torch."""

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
        shapes: from a config of the family to the shape of every parameter and buffer, by diffusers' name.
        statistics: the config's field for each buffer that holds statistics of the latents, by the buffer's name.
        published: from a config to the name of the published model that has its numbers, or "".
    """

    shapes: Callable[[Any], Shapes]
    statistics: Mapping[str, str] = field(default_factory=dict)
    published: Callable[[Any], str] = _unknown
