"""All parsers by their names."""

from collections.abc import Mapping

from .bundles import BUNDLES
from .caches import CACHES
from .checkpoints import CHECKPOINTS
from .clips import CLIPS
from .latents import LATENTS
from .pictures import PICTURES
from .subject import Maker
from .texts import TEXTS

__all__ = ["PARSERS"]

PARSERS: Mapping[str, Maker] = {**BUNDLES, **CHECKPOINTS, **LATENTS, **CACHES, **TEXTS, **PICTURES, **CLIPS}
"""The parsers that the fuzz campaign tries."""
