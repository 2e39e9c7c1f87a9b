"""Arrays on disk for a while: in one file without a name, which the system removes with its last handle, however the
process ends."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..errors import OutputError
from ..system.outputs.partial_output import output_error

__all__ = ["SpillFile"]


class SpillFile:
    """A file that is read and written, and not mapped, because mapped pages count as memory. Freed parts are reused.

    Raises:
        OutputError: the folder cannot be used or, in `write`, its disk is full.
    """

    def __init__(self, folder: Path | None) -> None:
        """Make the file in `folder`, or in the system's folder for temporary files."""
        import tempfile  # it brings shutil and random along, and this is imported at start-up

        self._end = 0
        self._free: list[tuple[int, int]] = []  # (start, stop), in order, with gaps between them
        try:
            self._folder = folder or Path(tempfile.gettempdir())
        except OSError as error:
            raise OutputError(
                "cannot write activations: this machine has no folder for temporary files that may be written, so set "
                "TMPDIR to a folder with free space"
            ) from error
        try:
            self._file = tempfile.TemporaryFile(dir=folder, prefix="latentrt-", buffering=0)  # noqa: SIM115 # close() does
        except OSError as error:
            raise self._error(error) from error

    def write(self, array: NDArray[Any]) -> int:
        """Put a C-contiguous array somewhere; returns where, in bytes."""
        start = self.reserve(array.nbytes)
        self.put(start, array)
        return start

    def put(self, start: int, array: NDArray[Any]) -> None:
        """Write a C-contiguous array from `start` on, into a reserved part."""
        self._move(self._file.write, start, array)

    def read(self, start: int, target: NDArray[Any]) -> None:
        """Fill a C-contiguous array with what lies from `start` on."""
        self._move(self._file.readinto, start, target)

    def free(self, start: int, size: int) -> None:
        """`size` bytes from `start` on are not read again."""
        stop = start + size
        before = [piece for piece in self._free if piece[1] < start]
        behind = [piece for piece in self._free if piece[0] > stop]
        touching = [piece for piece in self._free if piece[1] >= start and piece[0] <= stop]
        joined = min([start, *(piece[0] for piece in touching)]), max([stop, *(piece[1] for piece in touching)])
        self._free = [*before, joined, *behind]

    def close(self) -> None:
        self._file.close()

    def reserve(self, size: int) -> int:
        """Take `size` bytes that `put` may write and `free` gives back; returns where they start."""
        for index, (start, stop) in enumerate(self._free):
            if stop - start >= size:
                self._free[index : index + 1] = [(start + size, stop)] if stop - start > size else []
                return start
        self._end += size
        try:
            self._file.truncate(self._end)  # a part that is not yet written can be read
        except OSError as error:
            raise self._error(error) from error
        return self._end - size

    def _move(self, function: Any, start: int, array: NDArray[Any]) -> None:
        left = memoryview(array.reshape(-1).data).cast("B")
        try:
            self._file.seek(start)
            while left:  # a raw file moves at most 2 GiB at a time, and writes what a full disk still takes
                count = function(left)
                if not count:
                    raise OSError("the file is shorter than what was written")
                left = left[count:]
        except OSError as error:
            raise self._error(error) from error

    def _error(self, error: OSError) -> OutputError:
        return output_error(self._folder / "activations", error)
