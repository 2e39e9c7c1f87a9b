"""The many ways in which libraries say that memory ran out, as one sentence that says what to do."""

import contextlib
from collections.abc import Iterator

from ..runtime.errors import EngineError

__all__ = ["is_memory_error", "memory_errors"]

# ONNX Runtime's arena, C++'s std::bad_alloc in ONNX Runtime and OpenVINO, PyTorch's CPU allocator and mmap.
_PHRASES = (
    "failed to allocate memory",
    "bad_alloc",
    "bad allocation",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
)


def is_memory_error(error: BaseException) -> bool:
    """Whether an exception of any library means that memory ran out."""
    return isinstance(error, MemoryError) or any(phrase in str(error).lower() for phrase in _PHRASES)


@contextlib.contextmanager
def memory_errors(task: str) -> Iterator[None]:
    """Turn an exception of the body that means that memory ran out into one sentence; `task` is its subject.

    Raises:
        EngineError: memory ran out.
    """
    try:
        yield
    except Exception as error:  # ONNX Runtime's exceptions share no base class with PyTorch's or with MemoryError
        if not is_memory_error(error):
            raise
        raise EngineError(f"{task} ran out of memory: give a smaller picture or clip, or a shorter clip") from error
