"""Scratch memory that engines take turns with, in the order of the GPU's work and without the host waiting."""

import queue
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from ...errors import DeviceMemoryError
from .device_memory import mib
from .devices import settled, translated

__all__ = ["Workspaces"]


class Workspaces:
    """`count` buffers on a `Gpu` for the activations of engine calls, each as large as the largest call so far: encoder
    and decoder share them, and as many calls compute at a time. `owned`: a buffer of the caller's, the only one then.

    A call holds a buffer only while it is put into the stream: whoever comes next waits for it on the GPU, so copies of
    one call run beside the computation of the other.
    """

    def __init__(self, gpu: Any, count: int = 1, owned: Any = None) -> None:
        self._gpu = gpu
        self._owned = owned
        self._places: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()  # (buffer, event of its last use)
        for _ in range(1 if owned is not None else count):
            self._places.put((owned, None))
        weakref.finalize(self, _settle, gpu, self._places)

    @property
    def owned_bytes(self) -> int | None:
        """The size of the caller's buffer; None where there is none."""
        return None if self._owned is None else int(self._owned.size)

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
                    translated(used.sync, "the GPU failed in the call before")
                buffer, place = None, (None, None)  # freed before the larger one is asked for
                buffer = self._gpu.allocate(size, stream, "activations")
            elif used is not None:
                translated(partial(stream.wait, used), "CUDA orders no call behind the one before")
            place = self._owned, None  # of a failed call ours is let go
            try:
                yield buffer
            except BaseException:
                settled(self._gpu, stream.sync)  # what of it runs, writes there
                raise
            place = buffer, translated(stream.record, "CUDA marks no end of the call")
        finally:
            self._places.put(place)


def _settle(gpu: Any, places: "queue.SimpleQueue[tuple[Any, Any]]") -> None:
    """Buffers go in the order of the stream that asked for them, and others have used them since."""
    while not places.empty():
        _, used = places.get()
        if used is not None:
            settled(gpu, used.sync)
