"""The memory that ONNX Runtime's sessions on the CPU compute in: one arena for all of them, in one large block of
addresses.

A session's own arena grows by blocks, each twice the last one. A tensor lies within one block, so how much of them lies
idle depends on how the tensors' sizes fall between the blocks': 66 to 100 KiB per latent cell, for one model. In one
block, what was freed joins. Measured at sizes of both families: 0.7 to 0.9 of the memory, and proportional to the size;
and where sessions run in turns none takes pages of its own.

Addresses are no memory: the system gives pages when they are first written. But an account of the block is written when
it begins (`table_bytes`), so that it is not simply as large as the machine's memory: a call that may need more than the
usual block says so beforehand (`make_room`).
"""

import contextlib
import threading
import weakref
from typing import Any

import numpy as np

__all__ = ["BLOCK_BYTES", "Arena", "block_bytes", "table_bytes"]

BLOCK_BYTES = 2**31 - 256
"""Of the usual block: the most that ONNX Runtime takes for the first one. A larger one is this times a power of two.
What a call needs beyond the block comes from further ones, and then some of each lies idle."""
_ROOM_LEFT = 256  # of a block: a tensor of its very size, with what is put before it, would need the next larger one


def block_bytes(room: float) -> int:
    """The block for a call that holds about so many bytes at once."""
    size = BLOCK_BYTES
    while size < room:
        size *= 2
    return size


def table_bytes(block: int) -> int:
    """What ONNX Runtime writes to keep account of a block when it begins one, however much of it is used."""
    return block // 32


class Arena:
    """The process's arena: kept by those who hold it, and freed when the last one lets it go and the sessions that were
    made with it are gone."""

    _current: "weakref.ref[Arena] | None" = None
    _lock = threading.RLock()  # what is let go may be found out anywhere, within the lock too

    def __init__(self, runtime: Any) -> None:
        self._runtime, self._block = runtime, 0
        _register(runtime)
        weakref.finalize(self, Arena._forget, runtime).atexit = False

    @classmethod
    def of_process(cls, runtime: Any) -> "Arena":
        """The one that somebody holds, or a new one."""
        with cls._lock:
            arena = cls._current() if cls._current is not None else None
            if arena is None:
                arena = cls(runtime)
                cls._current = weakref.ref(arena)
            return arena

    def use_for(self, options: Any) -> None:
        """A session that is made with these options now computes in the arena."""
        options.add_session_config_entry("session.use_env_allocators", "1")

    def make_room(self, room: int) -> None:
        """Begin a block for a call that holds about so many bytes at once, unless there is one; where the system has no
        such addresses left, the arena grows by itself, as it needs."""
        block = block_bytes(room)
        with self._lock:
            if block <= max(self._block, BLOCK_BYTES):  # the usual one begins by itself
                return
            self._block = block
            with contextlib.suppress(Exception):  # ONNX Runtime's exceptions share no base class
                self._runtime.OrtValue.ortvalue_from_shape_and_type(
                    [block - _ROOM_LEFT], np.uint8, memory_info=_memory(self._runtime)
                )

    @classmethod
    def _forget(cls, runtime: Any) -> None:
        """ONNX Runtime keeps the last arena that it was given: it gets an empty one."""
        with cls._lock:
            if cls._current is None or cls._current() is None:
                _register(runtime)


def _register(runtime: Any) -> None:
    settings = {
        "arena_extend_strategy": 0,
        "initial_chunk_size_bytes": BLOCK_BYTES,
        "max_dead_bytes_per_chunk": 1,  # what a tensor leaves of a free piece is free
    }
    runtime.create_and_register_allocator(_memory(runtime), runtime.OrtArenaCfg(settings))


def _memory(runtime: Any) -> Any:
    return runtime.OrtMemoryInfo("Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT)
