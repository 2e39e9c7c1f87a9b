"""Float32 that is float32: a context without TF32 and other short formats, which PyTorch's settings may allow."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

__all__ = ["full_float32"]

_LIBRARIES = ("cudnn", "mkldnn")
_EXACT = ("ieee", "none")
_Undo = Callable[[], None]


class _Uses:
    """The contexts that are entered now, in all threads. PyTorch's settings are those of the process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = 0
        self.undo: list[_Undo] = []


_uses = _Uses()


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute float32 with all its digits. The first thread that enters changes PyTorch's settings, and the last one
    that leaves sets them as they were. Other work of the process is as exact meanwhile."""
    with _uses.lock:
        if _uses.count == 0:
            _uses.undo = _changed()
        _uses.count += 1
    try:
        yield
    finally:
        with _uses.lock:
            _uses.count -= 1
            if _uses.count == 0:
                for undo in reversed(_uses.undo):
                    undo()
                _uses.undo = []


def _changed() -> list[_Undo]:
    """Change what is not exact, and give the functions that undo it."""
    undo: list[_Undo] = []
    try:
        precision, allowed = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:  # the process uses the newer settings, and PyTorch refuses to read the older ones
        pass
    else:
        if precision != "highest":
            undo.append(partial(torch.set_float32_matmul_precision, precision))
            torch.set_float32_matmul_precision("highest")
        if allowed:
            undo.append(partial(setattr, torch.backends.cudnn, "allow_tf32", True))
            torch.backends.cudnn.allow_tf32 = False
    for place in _places():
        before = place.fp32_precision
        if before not in _EXACT:
            undo.append(partial(setattr, place, "fp32_precision", before))
            place.fp32_precision = "ieee"
    return undo


def _places() -> Iterator[Any]:
    """The newer settings, from PyTorch 2.9 on."""
    for library in _LIBRARIES:
        found = getattr(torch.backends, library)
        for operation in ("conv", "rnn", "matmul"):
            place = getattr(found, operation, None)
            if hasattr(place, "fp32_precision"):
                yield place
    if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        yield torch.backends.cuda.matmul
