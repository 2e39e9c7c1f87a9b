"""`.npy` files: reading one safely, and making one that is filled on disk."""

import os
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError

__all__ = ["create_npy", "load_npy"]

# What NumPy raises on damaged files. It parses their header as Python.
_DAMAGE = (OSError, ValueError, EOFError, SyntaxError, TokenError, OverflowError, FloatingPointError)


def load_npy(path: Path, *, mmap_mode: Literal["r"] | None = None) -> NDArray[Any]:
    """Read the array in a `.npy` file.

    Args:
        path: the file.
        mmap_mode: "r" maps the file into memory, so that its content is read when it is used. None reads the file.

    Raises:
        MediaError: the file is missing, cut off or damaged, holds Python objects, or is an archive of arrays.
    """
    try:
        with np.errstate(over="raise"):  # the product of the shape may overflow
            array = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except _DAMAGE as error:
        raise MediaError(f"{path} is not a whole .npy array ({error}): replace it") from error
    if not isinstance(array, np.ndarray):
        raise MediaError(f"{path} is an archive of several arrays: give a .npy file")
    return array


def create_npy(path: Path, shape: Sequence[int]) -> NDArray[np.float32]:
    """Make a float32 `.npy` file, mapped into memory: values written to the array go to the disk.

    On systems that can do so, the disk space is allocated at once. Otherwise a full disk would kill the process later,
    when it writes to the array.

    Raises:
        OSError: the file cannot be made, for example because the disk is full.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=tuple(shape))
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
