"""The memory that ONNX Runtime's sessions on the CPU compute in: one arena for all of them, in one large block of
addresses.

A session's own arena grows by blocks, each twice the last one. A tensor lies within one block, so how much of them lies
idle depends on how the tensors' sizes fall between the blocks': 66 to 100 KiB per latent cell, for one model. In one
block, what was freed joins. Measured at sizes of both families: 0.7 to 0.9 of the memory, and proportional to the size;
and where sessions run in turns none takes pages of its own.

Addresses are no memory: the system gives pages when they are first written.
"""

import threading
import weakref
from typing import Any

__all__ = ["BLOCK_BYTES", "FURTHER_BYTES", "TABLE_BYTES", "Arena"]

BLOCK_BYTES = 2**31 - 256
"""Of the first block: the most that ONNX Runtime takes for this. What a call needs beyond comes from further ones."""
FURTHER_BYTES = 2**30
"""Of each of these, or a tensor's size where that is larger (ONNX Runtime's max_power_of_two_extend_bytes). With 2 GiB
a stream of 16 frames took 0.85 of the memory, and a picture of 1024x1024, whose tensors have 1 GiB, 1.28 of it."""
TABLE_BYTES = BLOCK_BYTES // 32
"""What ONNX Runtime writes to keep account of a block when it begins one, however much of it is used."""


class Arena:
    """The process's arena: kept by those who hold it, and freed when the last one lets it go and the sessions that were
    made with it are gone."""

    _current: "weakref.ref[Arena] | None" = None
    _lock = threading.RLock()  # what is let go may be found out anywhere, within the lock too

    def __init__(self, runtime: Any) -> None:
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

    @classmethod
    def _forget(cls, runtime: Any) -> None:
        """ONNX Runtime keeps the last arena that it was given: it gets an empty one."""
        with cls._lock:
            if cls._current is None or cls._current() is None:
                _register(runtime)


def _register(runtime: Any) -> None:
    memory = runtime.OrtMemoryInfo("Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT)
    settings = {
        "arena_extend_strategy": 0,
        "initial_chunk_size_bytes": BLOCK_BYTES,
        "max_dead_bytes_per_chunk": 1,  # what a tensor leaves of a free piece is free
    }
    runtime.create_and_register_allocator(memory, runtime.OrtArenaCfg(settings))
