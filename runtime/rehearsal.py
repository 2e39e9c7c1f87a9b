"""What an exact pass holds between its steps, without running it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .activations import Activation, ActivationStore
from .exact_pass import ExactPass
from .exact_plan import Step

__all__ = ["held_bytes"]


class _Ledger(ActivationStore):
    """Counts what would lie in memory, and in files. `steps`: what lay in memory during each step."""

    def __init__(self, memory_bytes: int) -> None:
        super().__init__(memory_bytes, None, np.dtype(np.float32))
        self.steps: list[int] = []
        self.in_files = 0

    def note(self) -> None:
        self.steps.append(sum(self._held.values()))

    def allocate(self, shape: tuple[int, ...]) -> Activation:
        size = int(np.prod(shape)) * self.dtype.itemsize
        fits = sum(self._held.values()) + size <= self.memory_bytes
        paper = _Paper(shape)
        self._held[paper] = size if fits else 0
        self.in_files += 0 if fits else size
        return paper


class _Paper:
    """An activation that is only a shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        raise NotImplementedError

    def write(self, rows: slice, columns: slice, tile: NDArray[Any]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        return None


class _Rehearsal(ExactPass):
    """The pass's order of allocating and freeing, without its steps."""

    def _step(self, *_: Any, **__: Any) -> dict[str, NDArray[Any]]:
        self._note()
        return {}

    def _keys(self, step: Step, source: Activation, statistics: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        self._note()
        return {}

    def _note(self) -> None:
        assert isinstance(self._store, _Ledger)
        self._store.note()


def held_bytes(steps: Sequence[Step], batch: int, memory_bytes: int) -> tuple[list[int], int]:
    """The bytes of activations that lie in memory during each step, of which a store may hold `memory_bytes`, and the
    bytes that are written to files."""
    ledger = _Ledger(memory_bytes)
    unused: Callable[..., Any] = _unused
    shape = (batch, 1, *steps[0].source)
    _Rehearsal(steps, unused, ledger).run(np.broadcast_to(np.float32(0), shape), unused)
    return ledger.steps, ledger.in_files


def _unused(*_: Any) -> Any:
    raise NotImplementedError
