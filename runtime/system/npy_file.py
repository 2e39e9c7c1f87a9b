"""`.npy` files: reading one safely, and making one that is filled on disk."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError
from .file_kinds import not_the_wanted_kind
from .npy_header import NotNumbers, NpyHeader

__all__ = ["create_npy", "load_npy"]


def load_npy(path: Path, *, mmap_mode: Literal["r"] | None = None) -> NDArray[Any]:
    """Read the array in a `.npy` file: numbers in any byte order, in C or Fortran order.

    Args:
        path: the file.
        mmap_mode: "r" maps the file into memory, so that its content is read when it is used. None reads the file.

    Raises:
        MediaError: the file is missing, cut off or damaged, holds no numbers, or is of another kind.
    """
    try:
        with path.open("rb") as file:
            header = NpyHeader.read(file, path.stat().st_size)
            shape, dtype, order = header.shape, header.dtype, header.order
            if 0 in shape or mmap_mode is None:
                values = np.fromfile(file, dtype, math.prod(shape))
                return values.reshape(shape, order=order)
        return np.memmap(path, dtype, "r", header.offset, shape, order)
    except NotNumbers as error:
        raise MediaError(f"{path} cannot be read: {error}; save an array of numbers") from error
    except MediaError as error:
        sentence = not_the_wanted_kind(path, "a .npy array", ("npy", "empty", "zeros"))
        if sentence is not None:
            raise MediaError(sentence) from error
        raise MediaError(f"{path} is not a whole .npy array ({error}): replace it") from error
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MediaError(f"{path} is not a whole .npy array ({reason}): replace it") from error


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
