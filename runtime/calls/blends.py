"""The ways to blend tiles, as types for signatures."""

from typing import Literal

__all__ = ["ImageBlend", "VideoBlend"]

ImageBlend = Literal["linear", "diffusers"]
"""How tiles of a picture are blended: LatentRT's partition of unity, or diffusers' numbers."""
VideoBlend = Literal["linear", "diffusers", "ltx2"]
"""How tiles of a clip are blended; "ltx2" gives the numbers of the LTX-2 repository."""
