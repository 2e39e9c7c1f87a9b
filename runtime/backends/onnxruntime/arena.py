"""The memory that ONNX Runtime's sessions on the CPU compute in: one arena for all of them, in one large block of
addresses.

A session's own arena grows by blocks, each twice the last one. A tensor lies within one block, so how much of them lies
idle depends on how the tensors' sizes fall between the blocks': 66 to 100 KiB per latent cell, for one model. In one
block, what was freed joins. Measured at sizes of both families: 0.7 to 0.9 of the memory, and proportional to the size;
and where sessions run in turns none takes pages of its own.

Addresses are no memory: the system gives pages when they are first written. But an account of the block is written when
it begins (`table_bytes`), so that it is not simply as large as the machine's memory: each call says about
how much it will hold at once (`free_for_call`), and if there is no block of that size yet, one begins. What finds no
place after all gets blocks of its own size.
"""

import contextlib
import inspect
import threading
import weakref
from functools import cache
from typing import Any

import numpy as np

__all__ = ["BLOCK_BYTES", "Arena", "block_bytes", "bookkeeping_bytes", "table_bytes"]

BLOCK_BYTES = 2**31
"""Of the usual block, which is large enough for most calls."""
_SPARE = 2
"""Times as large as what a call holds at once is its block. A tensor goes into the smallest piece that it fits into:
that must not be what was never written, while there is a hole. (A clip of 193x448x640 at a narrow width, which holds
1.4 GiB at once, took 2.0 in a block of 2 GiB, and a third of that at half the size.)"""


def block_bytes(room: int) -> int:
    """The block for a call that holds about so many bytes at once."""
    return max(BLOCK_BYTES, _SPARE * room)


def table_bytes(block: int) -> int:
    """What ONNX Runtime writes to keep account of a block when it begins one, however much of it is used."""
    return block // 32


def bookkeeping_bytes(peak_estimate_bytes: int) -> int:
    """What ONNX Runtime writes to keep account of the block of a call that holds about so many bytes at once."""
    return table_bytes(block_bytes(peak_estimate_bytes))


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

    def free_for_call(self, room: int) -> None:
        """Begin a block for a call that holds about so many bytes at once, unless there is one; where the system has no
        such addresses left, the arena grows by itself, as it needs."""
        block = block_bytes(room)
        with self._lock:
            if block <= self._block or not _gives_blocks(self._runtime):
                return
            self._block = block
            with contextlib.suppress(Exception):  # ONNX Runtime's exceptions share no base class
                self._runtime.OrtValue.ortvalue_from_shape_and_type(
                    [block], np.uint8, memory_info=_memory(self._runtime)
                )

    @classmethod
    def _forget(cls, runtime: Any) -> None:
        """ONNX Runtime keeps the last arena that it was given: it gets an empty one."""
        with cls._lock:
            if cls._current is None or cls._current() is None:
                _register(runtime)


def _register(runtime: Any) -> None:
    settings = {"max_dead_bytes_per_chunk": 1}  # what a tensor leaves of a free piece is free
    if _gives_blocks(runtime):
        settings |= {"arena_extend_strategy": 1}  # by what is asked for
        runtime.create_and_register_allocator(_memory(runtime), runtime.OrtArenaCfg(settings))
        return
    settings |= {"arena_extend_strategy": 0, "initial_chunk_size_bytes": BLOCK_BYTES - 256}
    with contextlib.suppress(RuntimeError):  # 1.20 keeps the first one that it is given, for good
        runtime.create_and_register_allocator(_memory(runtime), runtime.OrtArenaCfg(settings))


@cache
def _gives_blocks(runtime: Any) -> bool:
    """Whether it allocates in an arena for us. One of before 2026 does not: its first block is the usual one, whatever
    the call, and further ones follow."""
    return "memory_info" in inspect.signature(runtime.OrtValue.ortvalue_from_shape_and_type).parameters


def _memory(runtime: Any) -> Any:
    return runtime.OrtMemoryInfo("Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT)
