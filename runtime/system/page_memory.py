"""Memory that returns to the system when it is freed: arrays in separate memory pages, and free pages of the heap.

If arrays that outlive an engine call come from the heap, they end up between arrays that do not. The heap is then
fragmented and cannot return its free memory. Streams took twice the memory that they used.
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

_LEAST_MAPPED_BYTES = 1 << 16  # smaller arrays come from the heap


def own_page_memory(shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
    """A C-contiguous, writable array of zeros in separate memory pages.

    The pages return to the system when the array is freed. Arrays below 64 KiB come from the heap.
    """
    count = prod(shape)
    size = count * np.dtype(dtype).itemsize
    if size < _LEAST_MAPPED_BYTES:
        return np.zeros(shape, dtype)
    return np.frombuffer(_mapping(size), dtype, count).reshape(shape)


class ReusedPages:
    """Memory pages for one array at a time. Reusing them saves the system's work of providing new ones."""

    def __init__(self) -> None:
        self._memory: NDArray[np.uint8] = np.empty(0, np.uint8)

    def take(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """A C-contiguous array with arbitrary content. It invalidates the array that the last call returned."""
        count = prod(shape)
        size = count * np.dtype(dtype).itemsize
        if self._memory.size < size:
            self._memory = np.empty(0, np.uint8)  # free the smaller memory before the larger is allocated
            self._memory = own_page_memory((size,), np.uint8)
        return np.frombuffer(self._memory, dtype, count).reshape(shape)


def _mapping(size: int) -> mmap.mmap:
    """New memory pages. On Unix they are private, so that pages that are never written take no memory. On Linux they
    are huge pages if possible, because the system provides fewer of them for the same memory."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, size)
    mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without huge pages
            mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping


def trim_heap() -> None:
    """Return the free pages in the middle of the heap to the system.

    By itself, glibc returns free pages at the end of the heap only. Without glibc this does nothing. It takes
    milliseconds.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
