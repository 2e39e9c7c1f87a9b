"""How a call ran, as a value for reports."""

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Ran"]


@dataclass(frozen=True)
class Ran:
    """How one encode or decode ran.

    Attributes:
        backend: the backend and its provider, such as "onnxruntime:cpu".
        dtype: the precision of the computation.
        strategy: "whole", "stream of 8 frames", "tiles of 512x512", "strips of 256 rows", ...
        exact: whether the numbers are those of a single pass. Tiles approximate them.
        planned_bytes: the most memory that the planner expected the call to take. None if the call was not planned.
    """

    backend: str
    dtype: str
    strategy: str
    exact: bool
    planned_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
