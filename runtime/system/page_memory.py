"""Memory that goes back to the system: arrays in pages of their own, and free pages of the heap.

What lives from one engine call to the next lies scattered between what lives within one, if both come from the heap,
and then neither half can be given back: streams held twice what they used.
"""

import contextlib
import ctypes
import mmap
import sys
from functools import cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ReusedPages", "own_page_memory", "trim_heap"]

_LEAST_BYTES = 1 << 16


def own_page_memory(shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
    """An array of zeros, C-contiguous and writable, whose pages are free when it goes. Small ones come from the
    heap."""
    count = prod(shape)
    size = count * np.dtype(dtype).itemsize
    if size < _LEAST_BYTES:
        return np.zeros(shape, dtype)
    return np.frombuffer(_mapping(size), dtype, count).reshape(shape)


class ReusedPages:
    """Room for one array at a time, whose pages the next one takes: the system has none to find for that."""

    def __init__(self) -> None:
        self._room: NDArray[np.uint8] = np.empty(0, np.uint8)

    def take(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """A C-contiguous array with any content; the one before is not to be used any more."""
        count = prod(shape)
        size = count * np.dtype(dtype).itemsize
        if self._room.size < size:
            self._room = np.empty(0, np.uint8)  # freed before the larger one is there
            self._room = own_page_memory((size,), np.uint8)
        return np.frombuffer(self._room, dtype, count).reshape(shape)


def _mapping(size: int) -> mmap.mmap:
    """Private pages where the system knows the difference, so that what is never written takes none; large ones, of
    which the system has fewer to find."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, size)
    mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping


def trim_heap() -> None:
    """Give free pages in the middle of the heap back (glibc, which otherwise gives back its end only; elsewhere nothing
    happens). Takes milliseconds."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
