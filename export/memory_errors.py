"""Recognises the errors with which libraries report that memory ran out, and turns them into one sentence."""

import contextlib
from collections.abc import Iterator

from ..runtime.errors import DeviceMemoryError, EngineError

__all__ = ["is_memory_error", "memory_errors"]

SMALLER_SAMPLE = "give a smaller picture or clip, or a shorter clip"
# Phrases of ONNX Runtime's arena, C++'s std::bad_alloc in ONNX Runtime and OpenVINO, PyTorch's CPU allocator, and mmap.
_PHRASES = (
    "failed to allocate",
    "bad_alloc",
    "bad allocation",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
)


def is_memory_error(error: BaseException) -> bool:
    """Return True if an exception of any library means that memory ran out."""
    return isinstance(error, MemoryError) or any(phrase in str(error).lower() for phrase in _PHRASES)


@contextlib.contextmanager
def memory_errors(task: str, advice: str = SMALLER_SAMPLE) -> Iterator[None]:
    """Translate an exception of the body to an EngineError with one sentence if it means that memory ran out.

    Args:
        task: subject of the sentence.
        advice: what the user can do.

    Raises:
        EngineError: memory ran out. A `DeviceMemoryError` has advice of its own and passes unchanged.
    """
    try:
        yield
    except Exception as error:  # ONNX Runtime's exceptions share no base class with PyTorch's or with MemoryError
        if isinstance(error, DeviceMemoryError) or not is_memory_error(error):
            raise
        raise EngineError(f"{task} ran out of memory: {advice}") from error
