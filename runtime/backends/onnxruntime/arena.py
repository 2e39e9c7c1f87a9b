"""The memory that ONNX Runtime's sessions on the CPU compute in: one arena for all sessions, in one large block of
addresses.

A session's own arena grows by blocks, each twice as large as the block before. A tensor lies within one block, so the
memory that stays idle depends on how the sizes of tensors and blocks match: 66 to 100 KiB per latent cell, for one
model. In a single block, pieces that were freed are joined. At sizes of both families this takes 0.7 to 0.9 of the
memory, in proportion to the size. Sessions that run in turns share the same pages.

Addresses take no memory: the system gives pages when they are first written. But ONNX Runtime writes an account of a
block when the block begins (`table_bytes`), so the block is not as large as the machine's memory. Each call says about
how much it holds at once (`free_for_call`), and a larger block begins if there is none of that size yet. A tensor that
finds no place gets a block of its own size.
"""

import contextlib
import inspect
import threading
import weakref
from functools import cache
from typing import Any

import numpy as np

from ...system.forked_process import finalize_in_own_process, keep_in_forked_child, observe_forks

__all__ = ["BLOCK_BYTES", "Arena", "block_bytes", "bookkeeping_bytes", "table_bytes"]

BLOCK_BYTES = 2**31
"""The size of the usual block, in bytes. It is large enough for most calls."""
_BLOCK_OVER_PEAK = 2
"""A block is this many times as large as what a call holds at once. A tensor goes into the smallest free piece that it
fits into. That piece must not be the part that was never written while a hole is free. (A clip of 193x448x640 at a
narrow width, which holds 1.4 GiB at once, took 2.0 GiB in a block of 2 GiB, and a third of that at half the size.)"""


def block_bytes(peak_estimate_bytes: int) -> int:
    """The size of the block for a call that holds about so many bytes at once."""
    return max(BLOCK_BYTES, _BLOCK_OVER_PEAK * peak_estimate_bytes)


def table_bytes(block: int) -> int:
    """The bytes that ONNX Runtime writes to keep account of a block when the block begins, used or not."""
    return block // 32


def bookkeeping_bytes(peak_estimate_bytes: int) -> int:
    """The bytes of ONNX Runtime's account of the block for a call that holds about so many bytes at once."""
    return table_bytes(block_bytes(peak_estimate_bytes))


class Arena:
    """The arena of the process. It is freed with its last reference, once the sessions that were made with it are
    freed."""

    _current: "weakref.ref[Arena] | None" = None
    _lock = threading.RLock()  # a finalizer may run anywhere, within the lock too

    def __init__(self, runtime: Any) -> None:
        self._runtime, self._block = runtime, 0
        _register(runtime)
        finalize_in_own_process(self, Arena._forget, runtime).atexit = False
        keep_in_forked_child(self)
        observe_forks(self)

    @classmethod
    def of_process(cls, runtime: Any) -> "Arena":
        """The arena that is in use, or a new one."""
        with cls._lock:
            arena = cls._current() if cls._current is not None else None
            if arena is None:
                arena = cls(runtime)
                cls._current = weakref.ref(arena)
            return arena

    def use_for(self, options: Any) -> None:
        """Let a session that is made with these options compute in the arena."""
        options.add_session_config_entry("session.use_env_allocators", "1")

    def free_for_call(self, peak_estimate_bytes: int) -> None:
        """Begin a block for a call that holds about so many bytes at once, unless there is one. If the system has no
        such addresses left, the arena grows by itself as calls need it."""
        block = block_bytes(peak_estimate_bytes)
        with self._lock:
            if block <= self._block or not _gives_blocks(self._runtime):
                return
            self._block = block
            with contextlib.suppress(Exception):  # ONNX Runtime's exceptions share no base class
                self._runtime.OrtValue.ortvalue_from_shape_and_type(
                    [block], np.uint8, memory_info=_memory(self._runtime)
                )

    def after_fork(self) -> None:
        """The sessions of the child process compute in an arena of their own."""
        Arena._current, Arena._lock = None, threading.RLock()

    @classmethod
    def _forget(cls, runtime: Any) -> None:
        """Give ONNX Runtime an empty arena, because it keeps the last arena that it was given."""
        with cls._lock:
            if cls._current is None or cls._current() is None:
                _register(runtime)


def _register(runtime: Any) -> None:
    settings = {"max_dead_bytes_per_chunk": 1}  # the rest of a piece that a tensor takes stays free
    if _gives_blocks(runtime):
        settings |= {"arena_extend_strategy": 1}  # by the size that is asked for
        runtime.create_and_register_allocator(_memory(runtime), runtime.OrtArenaCfg(settings))
        return
    settings |= {"arena_extend_strategy": 0, "initial_chunk_size_bytes": BLOCK_BYTES - 256}
    with contextlib.suppress(RuntimeError):  # 1.20 keeps the first arena that it is given
        runtime.create_and_register_allocator(_memory(runtime), runtime.OrtArenaCfg(settings))


@cache
def _gives_blocks(runtime: Any) -> bool:
    """Whether ONNX Runtime allocates in an arena for us. Versions before 2026 do not: their first block has the usual
    size for any call, and further blocks follow."""
    return "memory_info" in inspect.signature(runtime.OrtValue.ortvalue_from_shape_and_type).parameters


def _memory(runtime: Any) -> Any:
    return runtime.OrtMemoryInfo("Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT)
