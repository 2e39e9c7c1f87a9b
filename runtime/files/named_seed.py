"""Random streams for files: one seed gives every file noise of its own."""

from __future__ import annotations  # or every annotation of a generator would import numpy.random

from hashlib import sha256
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..media.latents_origin import source_name

__all__ = ["generator_for"]


def generator_for(seed: int, path: Path) -> np.random.Generator:
    """The random stream of the file `path` under `seed`.

    It depends on the seed and the file's name without its folder. So files of one folder get different noise, other
    files in the folder do not matter, and a file alone gets the noise that it gets in its folder. It is the stream of
    `numpy.random.SeedSequence([seed, *words])`, where `words` are the SHA-256 of the name (UTF-8, NFC) as eight
    little-endian 32-bit numbers.

    Raises:
        InputError: the seed is negative or no whole number.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"seed: wanted a whole number from 0, got {seed!r}")
    digest = sha256(source_name(path).encode()).digest()
    words = np.frombuffer(digest, "<u4").tolist()
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))
