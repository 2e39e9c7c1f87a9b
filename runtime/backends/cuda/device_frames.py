"""Frames that go from one stage of a stream to the next without leaving the GPU."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .device_array import DeviceArray

__all__ = ["DeviceFrames", "Rows"]


@dataclass(frozen=True)
class Rows:
    """Rows to copy, in bytes.

    Attributes:
        offset: the place of the first row in the target.
        source: the address of the first row.
        pitch: the distance between rows in the source.
        width: the length of a row.
        count: the number of rows.
    """

    offset: int
    source: int
    pitch: int
    width: int
    count: int


@dataclass(frozen=True, eq=False)
class DeviceFrames:
    """Frames (B, C, T, H, W) on the device. `parts` are (array, start, stop): frames from start to stop of each
    array."""

    parts: tuple[tuple[DeviceArray, int, int], ...]

    @classmethod
    def of(cls, array: DeviceArray) -> "DeviceFrames":
        return cls(((array, 0, array.shape[2]),))

    @property
    def shape(self) -> tuple[int, ...]:
        first = self.parts[0][0].shape
        return (*first[:2], sum(stop - start for _, start, stop in self.parts), *first[3:])

    @property
    def dtype(self) -> Any:
        return self.parts[0][0].dtype

    def frames(self, start: int, stop: int) -> "DeviceFrames":
        """The frames from start to stop, without a copy."""
        kept, place = [], 0
        for array, first, last in self.parts:
            begin, end = max(start - place, 0), min(stop - place, last - first)
            if begin < end:
                kept.append((array, first + begin, first + end))
            place += last - first
        return DeviceFrames(tuple(kept))

    def joined(self, others: Sequence["DeviceFrames"]) -> "DeviceFrames":
        """These frames and then the frames of others, without a copy."""
        return DeviceFrames(tuple(part for one in (self, *others) for part in one.parts))

    def let_wait(self, stream: Any) -> None:
        """Let the stream wait for all frames."""
        for array, _, _ in self.parts:
            array.let_wait(stream)

    @property
    def whole(self) -> DeviceArray | None:
        """The array, if these are all frames of one array."""
        array, start, stop = self.parts[0]
        return array if len(self.parts) == 1 and (start, stop) == (0, array.shape[2]) else None

    def rows(self) -> Iterator[Rows]:
        """The rows to copy so that the frames lie one after the other. A row holds the frames of one channel of a
        part."""
        frame = self.dtype.itemsize * math.prod(self.shape[3:])
        count, offset = math.prod(self.shape[:2]), 0
        for array, start, stop in self.parts:
            width = (stop - start) * frame
            yield Rows(offset, array.address + start * frame, array.shape[2] * frame, width, count)
            offset += width
