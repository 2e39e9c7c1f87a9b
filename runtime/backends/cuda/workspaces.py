"""Scratch memory that engines take turns with, in the order of the GPU's work. The host does not wait."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from ...errors import DeviceMemoryError
from ...system.forked_process import finalize_in_own_process, keep_in_forked_child
from .device_memory import mib
from .devices import translated, wait_before_freeing

__all__ = ["Workspaces"]


class Workspaces:
    """Buffers for the activations of engine calls, each as large as the largest call so far. Encoder and decoder share
    them, and as many calls compute at a time.

    A call holds a buffer only while it is put into the stream. The next call waits for the buffer on the GPU, so the
    copies of one call run during the computation of the other.

    Args:
        gpu: the `Gpu`.
        count: the number of buffers.
        owned: a buffer of the caller's, which is then the only one.
    """

    def __init__(self, gpu: Any, count: int = 1, owned: Any = None) -> None:
        self._gpu = gpu
        self._owned = owned
        self._places: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()  # (buffer, event of its last use)
        for _ in range(1 if owned is not None else count):
            self._places.put((owned, None))
        finalize_in_own_process(self, _wait_for_all, gpu, self._places)
        keep_in_forked_child(self)

    @property
    def owned_bytes(self) -> int | None:
        """The size of the caller's buffer in bytes. None: there is none."""
        return None if self._owned is None else int(self._owned.size)

    @contextmanager
    def turn(self, size: int, stream: Any) -> Iterator[Any]:
        """A buffer of at least `size` bytes for the work that the body puts into `stream`.

        Raises:
            DeviceMemoryError: the GPU has too little memory, or the caller's buffer is smaller.
        """
        buffer, used = self._places.get()
        place = (buffer, used)
        try:
            if self._owned is not None and buffer.size < size:
                raise DeviceMemoryError(f"the workspace has {mib(buffer.size)} and this call needs {mib(size)}")
            if buffer is None or buffer.size < size:
                if used is not None:
                    translated(used.sync, "the GPU failed in the call before")
                buffer, place = None, (None, None)  # freed before a larger buffer is allocated
                buffer = self._gpu.allocate(size, stream, "activations")
            elif used is not None:
                translated(partial(stream.wait, used), "CUDA orders no call behind the one before")
            place = self._owned, None  # after a failed call a buffer of ours is freed
            try:
                yield buffer
            except BaseException:
                wait_before_freeing(self._gpu, stream.sync)  # the part of it that runs writes there
                raise
            place = buffer, translated(stream.record, "CUDA marks no end of the call")
        finally:
            self._places.put(place)


def _wait_for_all(gpu: Any, places: "queue.SimpleQueue[tuple[Any, Any]]") -> None:
    """Wait for the last use of each buffer: it is freed in the order of the stream that allocated it, and other streams
    have used it since."""
    while not places.empty():
        _, used = places.get()
        if used is not None:
            wait_before_freeing(gpu, used.sync)
