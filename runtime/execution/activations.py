"""Activations that wait between the steps of a run in strips: in memory up to a budget, the rest in a file that
vanishes by itself.

An activation lies in the tiles in which a step made it, so that an engine writes straight into the memory that is kept,
and tiles that are not read again can go while the next step still runs. An activation may be kept in a narrower
precision than it is made and read in.
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...tiling.argument_names import argument
from ..errors import EngineError
from ..system.page_memory import ReusedPages, own_page_memory
from .spill_file import SpillFile

__all__ = ["Activation", "ActivationStore", "narrowed"]

Array = NDArray[Any]
_STOP = attrgetter("rows.stop")
_MOST_SPARE = 2  # the last freed arrays, which are kept: the next array of the same size takes their pages


@dataclass(frozen=True, eq=False)
class _Tile:
    """(B, C, rows, columns) of an activation: `array`, or what lies in `file` from `start` on, of that shape."""

    rows: slice
    columns: slice
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    array: Array | None
    file: SpillFile | None = None
    start: int = 0

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def copy_to(self, target: Array, rows: slice, columns: slice) -> None:
        """Put what it holds of those rows and columns of the activation into `target`, which has just them."""
        top, bottom = max(rows.start, self.rows.start), min(rows.stop, self.rows.stop)
        left, right = max(columns.start, self.columns.start), min(columns.stop, self.columns.stop)
        if top >= bottom or left >= right:
            return
        into = target[:, :, top - rows.start : bottom - rows.start, left - columns.start : right - columns.start]
        down = slice(top - self.rows.start, bottom - self.rows.start)
        across = slice(left - self.columns.start, right - self.columns.start)
        into[...] = self._read(down)[..., across] if self.array is None else self.array[:, :, down, across]

    def _read(self, rows: slice) -> Array:
        assert self.file is not None
        height, width = self.shape[2:]
        lines = np.empty((*self.shape[:2], rows.stop - rows.start, width), self.dtype)
        if lines.shape == self.shape:
            self.file.read(self.start, lines)
            return lines
        for index, plane in enumerate(lines.reshape(-1, *lines.shape[2:])):
            self.file.read(self.start + (index * height + rows.start) * width * self.dtype.itemsize, plane)
        return lines


class Activation:
    """(B, C, H, W), written tile by tile from the top, and read in tiles of any size; from one thread. `forget` is
    called with every tile that is dropped."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], forget: Callable[[_Tile], None]) -> None:
        self.shape = shape
        self._dtype, self._forget = dtype, forget
        self.tiles: list[_Tile] = []

    def read(self, rows: slice, columns: slice, pages: ReusedPages) -> Array:
        """A C-contiguous tile, not to be written to: one that is kept, or a copy in `pages`, whose content until now is
        gone with it."""
        first = bisect_right(self.tiles, rows.start, key=_STOP)
        seen = list(takewhile(lambda tile: tile.rows.start < rows.stop, self.tiles[first:]))
        for tile in seen:
            if tile.array is not None and (tile.rows, tile.columns, tile.dtype) == (rows, columns, self._dtype):
                return tile.array
        shape = (*self.shape[:2], rows.stop - rows.start, columns.stop - columns.start)
        copy = pages.take(shape, self._dtype)
        for tile in seen:
            tile.copy_to(copy, rows, columns)
        return copy

    def drop(self, row: int | None = None) -> None:
        """Let go of the tiles that end above `row`, which are not read again; without a row, of all tiles."""
        count = len(self.tiles) if row is None else bisect_right(self.tiles, row, key=_STOP)
        gone, self.tiles = self.tiles[:count], self.tiles[count:]
        for tile in gone:
            self._forget(tile)


class ActivationStore:
    """Keeps the activations of one pass, which computes in `dtype`: in memory while they fit into `memory_bytes`
    together, else in a file in `folder` (None: the system's own for such files); in `stored` (None: in `dtype`).
    `close` frees them all.

    Raises:
        OutputError: see `SpillFile`.
    """

    def __init__(
        self, memory_bytes: int, folder: Path | None, dtype: np.dtype[Any], stored: np.dtype[Any] | None = None
    ) -> None:
        self.memory_bytes = memory_bytes
        self.dtype = dtype
        self.held_bytes = 0
        self._stored = stored or dtype
        self._folder = folder
        self._file: SpillFile | None = None
        self._spare: list[Array] = []

    def given(self, array: Array) -> Activation:
        """An activation over an array of the caller's. Its memory does not count."""
        activation = Activation(array.shape, array.dtype, lambda tile: None)
        rows, columns = (slice(0, length) for length in array.shape[2:])
        activation.tiles.append(_Tile(rows, columns, array.shape, array.dtype, array))
        return activation

    def empty(self, shape: tuple[int, ...]) -> Activation:
        """An activation of (B, C, H, W), whose tiles are still to be kept."""
        return Activation(shape, self.dtype, self._forget)

    def place(self, shape: tuple[int, ...]) -> Array | None:
        """Where the next tile of (B, C, rows, columns) may be made, to be kept as it is then; None if the engine
        may choose the place, because the tile will be copied."""
        return self._memory(shape) if self._stored == self.dtype else None

    def keep(self, activation: Activation, rows: slice, columns: slice, made: Array, place: Array | None) -> None:
        """Add a tile to an activation; `place` is what `place` gave for it.

        Raises:
            EngineError: it has values that float16 does not hold. OutputError: the disk is full.
        """
        array, file, start = place, None, 0
        if place is not None and made is not place:
            np.copyto(place, made)
        if place is None:
            narrow = narrowed(made, self._stored)
            array = self._memory(made.shape)
            if array is not None:
                np.copyto(array, narrow)
            else:
                file, start = self._spilled(narrow)
        activation.tiles.append(_Tile(rows, columns, made.shape, self._stored, array, file, start))

    def _memory(self, shape: tuple[int, ...]) -> Array | None:
        size = math.prod(shape) * self._stored.itemsize
        found = next((array for array in self._spare if array.nbytes == size), None)
        if found is None:
            left = self.memory_bytes - self.held_bytes - size
            if sum(array.nbytes for array in self._spare) > left:
                self._spare.clear()
            if left < 0:
                return None
        self.held_bytes += size
        if found is None:
            return self._new(shape)
        self._spare = [array for array in self._spare if array is not found]
        return found.reshape(shape)

    def _new(self, shape: tuple[int, ...]) -> Array:
        return own_page_memory(shape, self._stored)

    def _spilled(self, array: Array) -> tuple[SpillFile | None, int]:
        if self._file is None:
            self._file = SpillFile(self._folder)
        return self._file, self._file.write(np.ascontiguousarray(array))

    def _forget(self, tile: _Tile) -> None:
        if tile.array is not None:
            self.held_bytes -= tile.array.nbytes
            self._spare = [*self._spare, tile.array][-_MOST_SPARE:]
        elif tile.file is not None:
            tile.file.free(tile.start, tile.bytes)

    def close(self) -> None:
        """Free every activation."""
        self._spare.clear()
        if self._file is not None:
            self._file.close()


def narrowed(tile: Array, dtype: np.dtype[Any]) -> Array:
    """An array in the precision in which it is kept.

    Raises:
        EngineError: it has values that float16 does not hold.
    """
    if tile.dtype == dtype:
        return tile
    with np.errstate(over="ignore"):
        narrow = tile.astype(dtype)
    if not np.isfinite(narrow).all():
        raise EngineError(
            f"strips: an activation of {np.abs(tile).max():.3g} does not fit into {dtype}, in which they are "
            f"kept: keep them in float32 ({argument('storage', 'float32')})"
        )
    return narrow
