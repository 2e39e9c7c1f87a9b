"""Running an exact pass: every step over all tiles, one step after the other, with statistics of the whole picture.

The numbers are those of a single pass up to rounding, whatever the tiles; nothing is computed twice. The mathematics
are in docs/exact-strips.md.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .activations import Activation, ActivationStore, InMemory
from .exact_plan import Step
from .manifest import Graph
from .row_statistics import GroupStatistics

__all__ = ["ExactPass", "Run", "Write"]

Array = NDArray[Any]
Run = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""One engine call: inputs by name -> outputs by name."""
Write = Callable[[slice, slice, Array], None]
"""Told rows, columns and what is there, (B, C, rows, columns), of the last step's result."""


class ExactPass:
    """`steps` over a batch (B, C, H, W). `open_step` loads a step's engine, which is let go after the step."""

    def __init__(
        self,
        steps: Sequence[Step],
        open_step: Callable[[Graph], Run],
        store: ActivationStore,
        on_tile: Callable[[], None] = lambda: None,
    ) -> None:
        self._steps, self._open, self._store, self._on_tile = steps, open_step, store, on_tile
        self._last_use = {
            index: step.segment.index for step in steps for index in (step.segment.source, step.segment.skip)
        }

    def run(self, array: Array, write: Write) -> None:
        """Run every step; the last one's result goes to `write`.

        Raises:
            OutputError: activations lie in files and the disk is full. EngineError, Cancelled: see there.
        """
        results: dict[int, Activation] = {-1: InMemory(array)}
        statistics: dict[str, Array] = {}
        keys: dict[str, Array] = {}
        for step in self._steps:
            segment = step.segment
            if segment.kind == "keys":
                keys = self._keys(step, results[segment.source], statistics)
                continue
            target = None if step is self._steps[-1] else self._target(step, results, array.shape[0])
            extras = {**statistics, **keys} if segment.kind == "attention" else statistics
            keys = {}
            late = target is results[segment.source]
            into = write if target is None else target.write
            statistics = self._step(step, results, extras, array.shape[0], into, late=late)
            del extras
            if target is not None:
                results[segment.index] = target
            for index, activation in list(results.items()):
                if self._last_use.get(index, -1) <= segment.index and index != segment.index:
                    del results[index]
                    if activation is not target:
                        self._store.free(activation)

    def _step(
        self,
        step: Step,
        results: Mapping[int, Activation],
        extras: Mapping[str, Array],
        batch: int,
        write: Write,
        *,
        late: bool,
    ) -> dict[str, Array]:
        """Every tile of a step, and the statistics of its result. `late`: it replaces what the step reads, so a tile is
        written when the next one, which may need rows of what it replaces, has been read."""
        run, segment = self._open(step.graph), step.segment
        wanted = {tensor.name for tensor in step.graph.inputs}
        extras = {name: value for name, value in extras.items() if name in wanted}
        merged = GroupStatistics(batch, step.groups) if step.groups else None
        waiting: tuple[slice, slice, Array] | None = None
        for rows, columns in step.tiles:
            down = segment.window(rows.start, rows.stop, step.source[0])
            across = segment.window(columns.start, columns.stop, step.source[1])
            inputs = dict(extras)
            inputs["tile"] = results[segment.source].read(
                slice(down.start, down.stop), slice(across.start, across.stop)
            )
            if "top" in wanted:
                zeros = (down.zeros_before, across.zeros_before, down.zeros_behind, across.zeros_behind)
                for side, count in zip(("top", "left", "bottom", "right"), zeros, strict=True):
                    inputs[side] = np.array([count], np.int64)
            if segment.skip is not None:
                inputs["skip"] = results[segment.skip].read(rows, columns)
            if waiting is not None:
                write(*waiting)
            outputs = run(inputs)
            if merged is not None:
                merged.add(_host(outputs["row_mean"]), _host(outputs["row_variance"]), columns.stop - columns.start)
            waiting = rows, columns, _host(outputs["result"])
            del inputs, outputs
            if not late:
                write(*waiting)
                waiting = None
            self._on_tile()
        if waiting is not None:
            write(*waiting)
        return {} if merged is None else self._typed(mean=merged.mean, variance=merged.variance)

    def _keys(self, step: Step, source: Activation, statistics: Mapping[str, Array]) -> dict[str, Array]:
        """Keys and values of all positions, tile after tile: attention does not ask for their order."""
        run, start = self._open(step.graph), 0
        shape = (source.shape[0], step.size[0] * step.size[1], step.channels)
        pair = {name: np.empty(shape, self._store.dtype) for name in ("keys", "values")}
        for rows, columns in step.tiles:
            outputs = run({"tile": source.read(rows, columns), **statistics})
            stop = start + (rows.stop - rows.start) * (columns.stop - columns.start)
            for name, array in pair.items():
                array[:, start:stop] = _host(outputs[name])
            start = stop
            self._on_tile()
        return pair

    def _target(self, step: Step, results: Mapping[int, Activation], batch: int) -> Activation:
        """Where a step's result goes: over what it adds or reads, if that has the shape and is not needed any more.
        What it reads may be replaced where tiles are whole rows: only the next one needs some of them, and it is read
        before."""
        segment, shape = step.segment, (batch, step.channels, *step.size)
        whole_rows = step.tiles[0][1].stop == step.size[1]
        over_source = segment.kind == "attention" or (segment.up == segment.down and whole_rows)
        for index in (segment.skip, segment.source if over_source else None):
            last = index is not None and index >= 0 and self._last_use[index] == segment.index
            if index is not None and last and results[index].shape == shape:
                return results[index]
        return self._store.allocate(shape)

    def _typed(self, **arrays: NDArray[np.float64]) -> dict[str, Array]:
        return {name: array.astype(self._store.dtype) for name, array in arrays.items()}


def _host(value: Any) -> Array:
    """An output of `step`: an array already, or a value that the backend kept."""
    return value if isinstance(value, np.ndarray) else np.asarray(value.numpy())
