"""What an exact pass holds between its steps, without running it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..execution.activations import Activation, ActivationStore
from ..execution.strip_pass import StripPass
from ..execution.strip_plan import Step

__all__ = ["held_bytes"]

Array = NDArray[Any]


class _Ledger(ActivationStore):
    """Counts what would lie in memory, and in files. Its arrays have shapes, and take no memory."""

    def __init__(self, memory_bytes: int) -> None:
        super().__init__(memory_bytes, None, np.dtype(np.float32))
        self.in_files = 0

    def _new(self, shape: tuple[int, ...]) -> Array:
        return _on_paper(shape)

    def _spilled(self, array: Array) -> tuple[None, int]:
        self.in_files += array.nbytes
        return None, 0


class _Rehearsal(StripPass):
    """The pass's order of keeping and dropping, without its engines. `most`: what lay in memory during each step."""

    def __init__(self, steps: Sequence[Step], ledger: _Ledger) -> None:
        super().__init__([replace(step, groups=0) for step in steps], self._begin, ledger)  # no norm: no statistics
        self.most: list[int] = []

    def _begin(self, graph: Any) -> Any:
        self.most.append(self._store.held_bytes)

    def _inputs(self, *_: Any) -> dict[str, Any]:
        return {}

    def _made(self, step: Step, run: Any, inputs: Any, shape: tuple[int, ...], place: Any, merged: Any) -> Array:
        self.most[-1] = max(self.most[-1], self._store.held_bytes)
        return _on_paper(shape) if place is None else place

    def _keys(self, step: Step, source: Activation, statistics: Mapping[str, Any]) -> dict[str, Array]:
        self._begin(step.graph)
        return {}


def held_bytes(steps: Sequence[Step], batch: int, memory_bytes: int) -> tuple[list[int], int]:
    """The most bytes of activations that lie in memory during each step, of which a store may hold `memory_bytes`, and
    the bytes that are written to files."""
    ledger = _Ledger(memory_bytes)
    rehearsal = _Rehearsal(steps, ledger)
    rehearsal.run(_on_paper((batch, 1, *steps[0].source)), lambda tile, row, column: None)
    return rehearsal.most, ledger.in_files


def _on_paper(shape: tuple[int, ...]) -> Array:
    return np.broadcast_to(np.float32(0), shape)
