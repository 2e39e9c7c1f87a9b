"""Where the activations of an exact pass lie: in memory up to a budget, the rest in files that vanish by themselves.
There they may be narrower than where they are made and read."""

import math
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from .errors import EngineError, OutputError
from .partial_output import output_error

__all__ = ["Activation", "ActivationStore", "InFile", "InMemory"]

Array = NDArray[Any]


class Activation(Protocol):
    """(B, C, H, W), read and written by tile; both may only come from one thread. A tile that is read is the reader's
    own, or not written to while it is used."""

    shape: tuple[int, ...]

    def read(self, rows: slice, columns: slice) -> Array: ...

    def write(self, rows: slice, columns: slice, tile: Array) -> None: ...

    def close(self) -> None: ...


class InMemory:
    """An array, read in `dtype` (None: its own)."""

    def __init__(self, array: Array, dtype: np.dtype[Any] | None = None) -> None:
        self.shape = array.shape
        self._array: Array | None = array
        self._dtype = dtype or array.dtype

    def read(self, rows: slice, columns: slice) -> Array:
        assert self._array is not None
        return np.ascontiguousarray(self._array[:, :, rows, columns], self._dtype)

    def write(self, rows: slice, columns: slice, tile: Array) -> None:
        assert self._array is not None
        self._array[:, :, rows, columns] = _narrowed(tile, self._array.dtype)

    def close(self) -> None:
        self._array = None


class InFile:
    """A file without a name, which the system removes with its last handle, however the process ends. It is read and
    written, not mapped: mapped pages count as memory. It is read in `dtype`, and holds `stored` (None: the same).

    Raises:
        OutputError: the folder cannot be used or, in `write`, its disk is full.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], folder: Path, stored: np.dtype[Any] | None = None
    ) -> None:
        self.shape = shape
        self._dtype, self._stored = dtype, stored or dtype
        self._folder = folder
        import tempfile  # it brings shutil and random along, and this is imported at start-up

        try:
            self._file = tempfile.TemporaryFile(dir=folder, prefix="latentrt-", buffering=0)  # noqa: SIM115 # close() does
        except OSError as error:
            raise self._error(error) from error

    def read(self, rows: slice, columns: slice) -> Array:
        height, width = self.shape[2:]
        lines = np.empty((*self.shape[:2], rows.stop - rows.start, width), self._stored)
        try:
            for index, plane in enumerate(lines.reshape(-1, *lines.shape[2:])):
                self._file.seek((index * height + rows.start) * width * self._stored.itemsize)
                self._transfer(self._file.readinto, plane)
        except OSError as error:
            raise self._error(error) from error
        return np.ascontiguousarray(lines[..., columns], self._dtype)

    def write(self, rows: slice, columns: slice, tile: Array) -> None:
        height, width = self.shape[2:]
        planes = np.ascontiguousarray(_narrowed(tile, self._stored)).reshape(-1, *tile.shape[2:])
        whole_lines = columns.stop - columns.start == width
        try:
            for index, plane in enumerate(planes):
                start = (index * height + rows.start) * width + columns.start
                for line, part in enumerate((plane,) if whole_lines else plane):
                    self._file.seek((start + line * width) * self._stored.itemsize)
                    self._transfer(self._file.write, part)
        except OSError as error:
            raise self._error(error) from error

    def close(self) -> None:
        self._file.close()

    def _transfer(self, function: Any, part: Array) -> None:
        left = memoryview(part.data).cast("B")
        while left:  # a raw file moves at most 2 GiB at a time, and writes what a full disk still takes
            count = function(left)
            if not count:
                raise OSError("the file is shorter than what was written")
            left = left[count:]

    def _error(self, error: OSError) -> OutputError:
        return output_error(self._folder / "activations", error)


def _narrowed(tile: Array, dtype: np.dtype[Any]) -> Array:
    """A tile as it is kept.

    Raises:
        EngineError: it has values that float16 does not hold.
    """
    if tile.dtype == dtype:
        return tile
    with np.errstate(over="ignore"):
        narrow = tile.astype(dtype)
    if not np.isfinite(narrow).all():
        raise EngineError(
            f"exact strips: an activation of {np.abs(tile).max():.3g} does not fit into {dtype}, in which they are "
            f"kept: keep them in float32 (storage='float32')"
        )
    return narrow


class ActivationStore:
    """Makes the activations of one pass, which computes in `dtype`: in memory while they fit into `memory_bytes`
    together, else in files in `folder`; kept in `stored` (None: in `dtype`). Leaving its context frees them all."""

    def __init__(
        self, memory_bytes: int, folder: Path | None, dtype: np.dtype[Any], stored: np.dtype[Any] | None = None
    ) -> None:
        self.memory_bytes = memory_bytes
        self.dtype = dtype
        self._stored = stored or dtype
        self._folder = folder
        self._held: dict[Activation, int] = {}

    def allocate(self, shape: tuple[int, ...]) -> Activation:
        """An activation of (B, C, H, W), whose content is still to be written.

        Raises:
            OutputError: see `InFile`.
        """
        size = math.prod(shape) * self._stored.itemsize
        fits = sum(self._held.values()) + size <= self.memory_bytes
        activation: Activation = InMemory(np.empty(shape, self._stored), self.dtype) if fits else self._in_file(shape)
        self._held[activation] = size if fits else 0
        return activation

    def _in_file(self, shape: tuple[int, ...]) -> InFile:
        import tempfile

        return InFile(shape, self.dtype, self._folder or Path(tempfile.gettempdir()), self._stored)

    def free(self, activation: Activation) -> None:
        """Let go of an activation; of one that this did not make, nothing."""
        if self._held.pop(activation, None) is not None:
            activation.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for activation in tuple(self._held):
            self.free(activation)
