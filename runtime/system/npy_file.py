"""`.npy` files: read without pickles and with one sentence when they are damaged; made to be filled on disk."""

import os
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError

__all__ = ["create_npy", "load_npy"]

# What NumPy raises on damaged files, whose header it reads as Python.
_DAMAGE = (OSError, ValueError, EOFError, SyntaxError, TokenError, OverflowError, FloatingPointError)


def load_npy(path: Path, *, mmap_mode: Literal["r"] | None = None) -> NDArray[Any]:
    """The array in a `.npy` file; with `mmap_mode="r"` it stays on disk until it is read.

    Raises:
        MediaError: the file is missing, cut off, damaged, or holds Python objects.
    """
    try:
        with np.errstate(over="raise"):  # of a shape whose product no integer holds
            array = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except _DAMAGE as error:
        raise MediaError(f"{path} is not a whole .npy array ({error}): replace it") from error
    if not isinstance(array, np.ndarray):
        raise MediaError(f"{path} is an archive of arrays, not one: give a .npy file")
    return array


def create_npy(path: Path, shape: Sequence[int]) -> NDArray[np.float32]:
    """A new float32 `.npy` file of that shape, mapped into memory: what is written to the array goes to the disk.

    Its space is taken at once where the system can, for a disk that fills up under a mapped file ends the process.

    Raises:
        OSError: it cannot be made; the disk is full, for instance.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=tuple(shape))
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
