"""Frames and states of a stream in strips, which wait between the steps: in memory up to a budget, the rest in a file.

Arrays are float32 (B, C, T, H, W). They are written and read in pieces of height and width.
"""

from collections import deque
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..system.page_memory import own_page_memory
from .activations import narrowed
from .spill_file import SpillFile

__all__ = ["FrameStore", "Frames", "GivenFrames", "HeldFrames", "PieceQueue"]

Array = NDArray[Any]


class Frames(Protocol):
    """Frames that can be read in pieces."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(B, C, T, H, W)."""
        ...

    def read(self, frames: slice, rows: slice, columns: slice, target: Array) -> None:
        """Copy a piece into `target`, which has its size."""
        ...

    def whole(self) -> Array | None:
        """The frames in one array, if they are in memory in the precision in which they are computed."""
        ...

    def free(self) -> None:
        """Give back what the frames hold."""
        ...


class GivenFrames:
    """Frames in an array of the caller's. Its memory does not count."""

    def __init__(self, array: Array) -> None:
        self.array = array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def read(self, frames: slice, rows: slice, columns: slice, target: Array) -> None:
        np.copyto(target, self.array[:, :, frames, rows, columns])

    def whole(self) -> Array | None:
        return self.array if self.array.flags.c_contiguous else None

    def free(self) -> None:
        self.array = np.empty(0)


class FrameStore:
    """Makes the arrays that wait between the steps of one call. `close` frees the file.

    Attributes:
        held_bytes: the bytes that are in memory now.
        in_files: the bytes that are in the file now.

    Args:
        memory_bytes: the most bytes in memory.
        folder: the folder of the file. None: the system's folder for temporary files.
        stored: the precision in which arrays are kept.

    Raises:
        OutputError: see `SpillFile`.
    """

    def __init__(self, memory_bytes: int, folder: Path | None, stored: Any = np.float32) -> None:
        self.memory_bytes, self.stored = memory_bytes, np.dtype(stored)
        self.held_bytes = self.in_files = 0
        self._folder = folder
        self._file: SpillFile | None = None

    def make(self, shape: tuple[int, ...]) -> "HeldFrames":
        """New frames (B, C, T, H, W), all zeros in memory and arbitrary in the file."""
        size = prod(shape) * self.stored.itemsize
        if self.held_bytes + size <= self.memory_bytes:
            self.held_bytes += size
            return HeldFrames(self, shape, own_page_memory(shape, self.stored), 0)
        self.in_files += size
        return HeldFrames(self, shape, None, self.file.reserve(size))

    @property
    def file(self) -> SpillFile:
        """The file, which is made when it is first used."""
        if self._file is None:
            import tempfile

            self._file = SpillFile(self._folder or Path(tempfile.gettempdir()))
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class HeldFrames:
    """Frames in a `FrameStore`. In the file they lie row by row, (T, H, B, C, W), so that a strip is read at once."""

    def __init__(self, store: FrameStore, shape: tuple[int, ...], array: Array | None, start: int) -> None:
        self.shape: tuple[int, ...] = shape
        self._store, self._array, self._start = store, array, start

    def whole(self) -> Array | None:
        return self._array if self._store.stored == np.float32 else None

    def read(self, frames: slice, rows: slice, columns: slice, target: Array) -> None:
        if self._array is not None:
            np.copyto(target, self._array[:, :, frames, rows, columns])
            return
        for index, frame in enumerate(range(*frames.indices(self.shape[2]))):
            lines = self._lines(frame, rows)
            target[:, :, index] = lines[..., columns].transpose(1, 2, 0, 3)

    def write(self, frames: slice, rows: slice, columns: slice, piece: Array) -> None:
        """Copy a piece of that size into the frames.

        Raises:
            EngineError: it has values that float16 does not hold. OutputError: the disk is full.
        """
        piece = narrowed(piece, self._store.stored)
        if self._array is not None:
            self._array[:, :, frames, rows, columns] = piece
            return
        narrow = columns.stop - columns.start < self.shape[4]
        for index, frame in enumerate(range(*frames.indices(self.shape[2]))):
            own = piece[:, :, index].transpose(2, 0, 1, 3)
            if narrow:  # columns of the same rows stand around it
                lines = self._lines(frame, rows)
                lines[..., columns] = own
                own = lines
            self._store.file.put(self._place(frame, rows.start), np.ascontiguousarray(own))

    def free(self) -> None:
        size = prod(self.shape) * self._store.stored.itemsize
        if self._array is not None:
            self._store.held_bytes -= size
            self._array = None
        else:
            self._store.in_files -= size
            self._store.file.free(self._start, size)

    def _lines(self, frame: int, rows: slice) -> Array:
        batch, channels, _, _, width = self.shape
        lines = np.empty((rows.stop - rows.start, batch, channels, width), self._store.stored)
        self._store.file.read(self._place(frame, rows.start), lines)
        return lines

    def _place(self, frame: int, row: int) -> int:
        batch, channels, _, height, width = self.shape
        itemsize: int = self._store.stored.itemsize
        return self._start + (frame * height + row) * batch * channels * width * itemsize


class PieceQueue:
    """First in, first out: frames between two stages. Frames are read in pieces before they are dropped.

    Attributes:
        count: the number of frames in the queue.
    """

    def __init__(self) -> None:
        self._parts: deque[tuple[Frames, int]] = deque()  # with the frames of each part that are gone
        self.count = 0

    def put(self, frames: Frames) -> None:
        self._parts.append((frames, 0))
        self.count += frames.shape[2]

    @property
    def shape(self) -> tuple[int, ...]:
        """(B, C, frames, H, W)."""
        batch, channels, _, height, width = self._parts[0][0].shape
        return batch, channels, self.count, height, width

    def read(self, count: int, rows: slice, columns: slice) -> Array:
        """A piece of the first `count` frames, C-contiguous and not to be written to."""
        frames, gone = self._parts[0]
        if frames.shape[2:] == (count, rows.stop - rows.start, columns.stop - columns.start) and not gone:
            array = frames.whole()
            if array is not None:
                return array
        shape = (*self.shape[:2], count, rows.stop - rows.start, columns.stop - columns.start)
        target, done = own_page_memory(shape), 0
        for frames, gone in self._parts:
            taken = min(frames.shape[2] - gone, count - done)
            if taken < 1:
                break
            frames.read(slice(gone, gone + taken), rows, columns, target[:, :, done : done + taken])
            done += taken
        return target

    def drop(self, count: int) -> None:
        """Let go of the first `count` frames."""
        self.count -= count
        while count:
            frames, gone = self._parts.popleft()
            if frames.shape[2] - gone > count:
                self._parts.appendleft((frames, gone + count))
                return
            count -= frames.shape[2] - gone
            frames.free()
