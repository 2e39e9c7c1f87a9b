"""One compiled model, the sizes that it is for, and the memory that it computes in."""

import contextlib
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from ...system.page_memory import trim_heap
from ..component import CallScope

__all__ = ["FixedSizes", "SharedModel", "WorkingMemory"]

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class FixedSizes:
    """The sizes that a model is compiled for.

    Attributes:
        shapes: the shapes of the inputs, by name.
        values: the values of inputs that are whole numbers (`first` and `last` of a stream's step), by name. Shapes
            depend on them.
    """

    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    values: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, inputs: Mapping[str, Any]) -> Self:
        arrays = sorted(inputs.items())
        return cls(
            tuple((name, tuple(array.shape)) for name, array in arrays if array.dtype.kind != "i"),
            tuple((name, tuple(array.tolist())) for name, array in arrays if array.dtype.kind == "i"),
        )


class SharedModel:
    """One compiled model, which threads use in turns. OpenVINO runs one request of a model at a time anyway. The turn
    makes sure that no other request is half done in the model when one is cancelled.

    Args:
        keeps_memory: whether it keeps the memory that it computes in.

    Attributes:
        compiled: OpenVINO's compiled model.
        sizes: the sizes that it was compiled for. None: it takes every size.
        is_spoiled: whether a call was cancelled, or failed, while the model computed it. Set without a lock, so that a
            cancellation never waits for a compilation.
    """

    def __init__(self, compiled: Any, sizes: FixedSizes | None = None, *, keeps_memory: bool = False) -> None:
        self.compiled, self.sizes = compiled, sizes
        self._keeps_memory = keeps_memory
        self.is_spoiled = False
        self._turn = threading.Lock()

    @contextmanager
    def turn(self, call: CallScope) -> Iterator[None]:
        """Hold the model for one request.

        Raises:
            Cancelled: the call was cancelled while it waited for the model.
        """
        while not self._turn.acquire(timeout=_POLL_SECONDS):
            call.check()
        try:
            yield
        finally:
            self._turn.release()

    def release_memory(self) -> None:
        """Free the memory that the model computed in, unless it keeps it or computes now. The next request allocates
        it again."""
        if self._keeps_memory or not self._turn.acquire(blocking=False):
            return
        try:
            with contextlib.suppress(RuntimeError):  # OpenVINO refuses in the middle of a request, which keeps it
                self.compiled.release_memory()
        finally:
            self._turn.release()
        trim_heap()


class WorkingMemory:
    """The memory that the steps of streams compute in. OpenVINO gives each model memory of its own, and the model keeps
    it. Here the model that ran last keeps it, and the others free theirs: the stages of a stream run in turns.
    Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: weakref.ref[SharedModel] | None = None

    def begin(self, model: SharedModel, *, anew: bool) -> None:
        """Note that a model computes from now on, and free the memory of the model before. `anew`: also if it is the
        same model, for a step of another size."""
        with self._lock:
            last = None if self._last is None else self._last()
            self._last = weakref.ref(model)
        if last is not None and (anew or last is not model):
            last.release_memory()

    def end(self) -> None:
        """Free the memory of the model that ran last: its stream has ended."""
        with self._lock:
            last, self._last = None if self._last is None else self._last(), None
        if last is not None:
            last.release_memory()
