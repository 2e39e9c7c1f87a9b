"""Scratch memory that engines take turns with, in the order of the GPU's work and without the host waiting."""

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import DeviceMemoryError
from .device_memory import mib

__all__ = ["Workspaces"]

Allocate = Callable[[int, Any, str], Any]
"""(bytes, stream, what for) -> a buffer with `handle` and `size`."""


class Workspaces:
    """`count` buffers for the activations of engine calls, each as large as the largest call so far: encoder and
    decoder share them, and as many calls compute at a time. `owned`: a buffer of the caller's, the only one then.

    A call holds a buffer only while it is put into the stream: whoever comes next waits for it on the GPU, so copies of
    one call run beside the computation of the other.
    """

    def __init__(self, allocate: Allocate, count: int = 1, owned: Any = None) -> None:
        self._allocate = allocate
        self._owned = owned
        self._places: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()  # (buffer, event of its last use)
        for _ in range(1 if owned is not None else count):
            self._places.put((owned, None))

    @contextmanager
    def turn(self, size: int, stream: Any) -> Iterator[Any]:
        """A buffer of at least `size` bytes for what the body puts into `stream`.

        Raises:
            DeviceMemoryError: there is no room, or the caller's buffer is smaller.
        """
        buffer, used = self._places.get()
        place = (buffer, used)
        try:
            if self._owned is not None and buffer.size < size:
                raise DeviceMemoryError(f"the workspace has {mib(buffer.size)} and this call needs {mib(size)}")
            if buffer is None or buffer.size < size:
                if used is not None:
                    used.sync()
                buffer, place = None, (None, None)  # freed before the larger one is asked for
                buffer = self._allocate(size, stream, "activations")
            elif used is not None:
                stream.wait(used)
            place = self._owned, None  # a failed call may still write to ours: it is let go then
            yield buffer
            place = buffer, stream.record()
        finally:
            self._places.put(place)
