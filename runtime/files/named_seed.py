"""Random generators for files: with one seed, each file gets different noise."""

from __future__ import annotations  # otherwise annotations with np.random.Generator would import numpy.random

from hashlib import sha256
from pathlib import Path

import numpy as np

from ...tiling.argument_names import argument
from ..errors import InputError
from ..media.encode_record import source_name

__all__ = ["check_seed", "generator_for"]


def check_seed(seed: int | None) -> None:
    """Refuse a seed that is negative or no whole number. None is no seed.

    Raises:
        InputError: see above.
    """
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or seed < 0):
        raise InputError(f"{argument('seed')}: wanted a whole number from 0, got {seed!r}")


def generator_for(seed: int, path: Path) -> np.random.Generator:
    """The random generator for a file.

    It depends on the seed and on the file's name without its folder. So the files of a folder get different noise, and
    a file gets the same noise with and without other files. The seed of the generator is
    `numpy.random.SeedSequence([seed, *words])`, where `words` are the SHA-256 of the name (UTF-8, NFC) as eight
    little-endian 32-bit numbers.

    Raises:
        InputError: `seed` is negative or no whole number.
    """
    check_seed(seed)
    digest = sha256(source_name(path).encode()).digest()
    words = np.frombuffer(digest, "<u4").tolist()
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))
