"""Plans and blending for arrays larger than an engine takes at once. NumPy alone, no knowledge of engines.

`Axis` says how latents and samples lie on each other, a `Plan` of `Line`s which tiles there are and how they are
weighted, and `apply` runs a function over them.
"""

from .apply import apply
from .axis import Axis, Span
from .errors import InputError, LatentRTError
from .plan import Line, Piece, Plan, Tile
from .spans import evened_size, last_short, last_slid_back, with_stubs

__all__ = [
    "Axis",
    "InputError",
    "LatentRTError",
    "Line",
    "Piece",
    "Plan",
    "Span",
    "Tile",
    "apply",
    "evened_size",
    "last_short",
    "last_slid_back",
    "with_stubs",
]
