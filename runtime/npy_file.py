"""Reading `.npy` files: never a pickle, and one sentence when the file is damaged."""

from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import MediaError

__all__ = ["load_npy"]


def load_npy(path: Path, *, mmap_mode: Literal["r"] | None = None) -> NDArray[Any]:
    """The array in a `.npy` file; with `mmap_mode="r"` it stays on disk until it is read.

    Raises:
        MediaError: the file is missing, cut off, damaged, or holds Python objects.
    """
    try:
        array = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, TokenError) as error:  # the header is read as Python
        raise MediaError(f"{path} is not a whole .npy array ({error}): replace it") from error
    if not isinstance(array, np.ndarray):
        raise MediaError(f"{path} is an archive of arrays, not one: give a .npy file")
    return array
