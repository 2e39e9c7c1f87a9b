"""Running the steps of strips: every step over all tiles, one step after the other, with statistics of the whole
picture.

The numbers are those of a single pass up to rounding, for any tiles; nothing is computed twice. The mathematics are in
docs/exact-strips.md.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.boundary import check_shape
from ..bundle import ports
from ..bundle.graph import Graph
from ..system.page_memory import ReusedPages
from .activations import Activation, ActivationStore
from .row_statistics import GroupStatistics
from .strip_plan import Step

__all__ = ["Run", "StripPass", "Write"]

Array = NDArray[Any]
Run = Callable[[Mapping[str, Any], Array | None], Mapping[str, Any]]
"""One engine call: inputs by name -> outputs by name, on the host; the result in the given array, if there is one."""
Write = Callable[[Array, int, int], None]
"""Called with a tile of the last step's result, (B, C, rows, columns), and its first row and column."""


class StripPass:
    """`steps` over a batch (B, C, H, W). `open_step` loads a step's engine, which is let go after the step."""

    def __init__(
        self,
        steps: Sequence[Step],
        open_step: Callable[[Graph], Run],
        store: ActivationStore,
        on_tile: Callable[[], None] = lambda: None,
    ) -> None:
        self._steps, self._open, self._store, self._on_tile = steps, open_step, store, on_tile
        last_use = {index: step.stage.index for step in steps for index in (step.stage.source, step.stage.skip)}
        places = {-1, *(step.stage.index for step in steps)}
        self._not_read_after = {  # by step: the steps (-1: the input) whose results no step behind it reads
            step.stage.index: {
                index for index in places - {step.stage.index} if last_use.get(index, -1) <= step.stage.index
            }
            for step in steps
        }
        self._pages = {name: ReusedPages() for name in (ports.TILE, ports.SKIP)}

    def run(self, array: Array, write: Write) -> None:
        """Run every step; the last one's result goes to `write`.

        Raises:
            OutputError: activations lie in files and the disk is full. EngineError, Cancelled: see there.
        """
        results: dict[int, Activation] = {-1: self._store.given(array)}
        statistics: dict[str, Array] = {}
        keys: dict[str, Array] = {}
        for step in self._steps:
            stage = step.stage
            if stage.kind == "keys":
                keys = self._keys(step, results[stage.source], statistics)
                continue
            extras = {**statistics, **keys} if stage.kind == "attention" else statistics
            keys = {}
            last = step is self._steps[-1]
            target = None if last else self._store.empty((array.shape[0], step.channels, *step.size))
            statistics = self._step(step, results, extras, array.shape[0], target, write)
            del extras
            if target is not None:
                results[stage.index] = target
            for index in [index for index in results if index in self._not_read_after[stage.index]]:
                results.pop(index).drop()

    def _step(
        self,
        step: Step,
        results: Mapping[int, Activation],
        extras: Mapping[str, Array],
        batch: int,
        target: Activation | None,
        write: Write,
    ) -> dict[str, Array]:
        """Run every tile of a step, and collect the statistics of its result.

        Rows that no later step reads are dropped tile by tile, so that the result can take their memory.
        """
        run = self._open(step.graph)
        wanted = {tensor.name for tensor in step.graph.inputs}
        extras = {name: value for name, value in extras.items() if name in wanted}
        merged = GroupStatistics(batch, step.groups) if step.groups else None
        for number, (rows, columns) in enumerate(step.tiles):
            shape = (batch, step.channels, rows.stop - rows.start, columns.stop - columns.start)
            place = None if target is None else self._store.place(shape)
            made = self._made(step, run, self._inputs(step, results, number) | extras, shape, place, merged)
            if target is None:
                write(made, rows.start, columns.start)
            else:
                self._store.keep(target, rows, columns, made, place)
            del made, place
            if number + 1 < len(step.tiles):
                self._drop_above(step, results, number + 1)
            self._on_tile()
        if merged is None:
            return {}
        return {name: value.astype(self._store.dtype) for name, value in merged.result.items()}

    def _made(
        self,
        step: Step,
        run: Run,
        inputs: Mapping[str, Any],
        shape: tuple[int, ...],
        place: Array | None,
        merged: GroupStatistics | None,
    ) -> Array:
        """A tile of that shape of the step's result, in `place` if there is one; its rows are added to `merged`."""
        outputs = run(inputs, place)
        check_shape(outputs[ports.RESULT], shape, step.graph.file)
        if merged is not None:
            for name in (ports.ROW_MEAN, ports.ROW_VARIANCE):
                check_shape(outputs[name], shape[:3], step.graph.file)
            merged.add(outputs[ports.ROW_MEAN], outputs[ports.ROW_VARIANCE], shape[3])
        result: Array = outputs[ports.RESULT]
        return result

    def _inputs(self, step: Step, results: Mapping[int, Activation], number: int) -> dict[str, Any]:
        """What the engine takes for a tile of the result, without what is the same for all tiles."""
        stage, (rows, columns), (down, across) = step.stage, step.tiles[number], step.windows[number]
        seen = slice(down.start, down.stop), slice(across.start, across.stop)
        inputs = {ports.TILE: results[stage.source].read(*seen, self._pages[ports.TILE])}
        if any(tensor.name in ports.SIDES for tensor in step.graph.inputs):
            zeros = (down.zeros_before, across.zeros_before, down.zeros_behind, across.zeros_behind)
            for side, count in zip(ports.SIDES, zeros, strict=True):
                inputs[side] = np.array([count], np.int64)
        if stage.skip is not None:
            inputs[ports.SKIP] = results[stage.skip].read(rows, columns, self._pages[ports.SKIP])
        return inputs

    def _drop_above(self, step: Step, results: Mapping[int, Activation], number: int) -> None:
        """Drop the rows that no later step reads, and that this step does not read for this tile or a later tile."""
        stage, (rows, _), (down, _) = step.stage, step.tiles[number], step.windows[number]
        for index, row in ((stage.source, down.start), (stage.skip, rows.start)):
            if index in self._not_read_after[stage.index]:
                results[index].drop(row)

    def _keys(self, step: Step, source: Activation, statistics: Mapping[str, Array]) -> dict[str, Array]:
        """Keys and values of all positions, tile after tile: attention does not ask for their order."""
        run, start = self._open(step.graph), 0
        shape = (source.shape[0], step.size[0] * step.size[1], step.channels)
        pair = {name: np.empty(shape, self._store.dtype) for name in (ports.KEYS, ports.VALUES)}
        for rows, columns in step.tiles:
            outputs = run({ports.TILE: source.read(rows, columns, self._pages[ports.TILE]), **statistics}, None)
            stop = start + (rows.stop - rows.start) * (columns.stop - columns.start)
            for name, array in pair.items():
                check_shape(outputs[name], (shape[0], stop - start, shape[2]), step.graph.file)
                array[:, start:stop] = outputs[name]
            start = stop
            self._on_tile()
        return pair
