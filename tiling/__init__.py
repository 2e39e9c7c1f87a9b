"""Plans and blending for arrays that are too large for one engine call.

An `Axis` relates latent cells to sample elements. A `Plan` of one `Line` per axis lists the tiles and their weights.
`apply` runs a function over the tiles and blends the results. This package needs NumPy alone and knows no engine, no
bundle and no model. How a call chooses its tiles belongs to `latentrt.runtime.calls`.
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
