"""Measures the time of calls and the GPU memory that they take."""

import statistics
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

__all__ = ["MemoryWatch", "median_seconds", "seconds_of", "synchronise"]

_MAX_CALLS = 5
_ENOUGH_SECONDS = {"cuda": 1.0, "cpu": 0.2}  # of timed calls, after which no further call is timed


def synchronise(device: str) -> None:
    """Wait for all work on the GPU. Without a GPU, do nothing."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def seconds_of(run: Callable[[], Any], device: str) -> float:
    """Return the seconds of one call, from an idle GPU to an idle GPU."""
    synchronise(device)
    started = time.perf_counter()
    result = run()
    synchronise(device)
    seconds = time.perf_counter() - started
    del result  # freeing half a gigabyte is not part of the call
    return seconds


def median_seconds(run: Callable[[], Any], device: str) -> float:
    """Return the median seconds of a few calls. The caller should warm up with a call before."""
    seconds: list[float] = []
    while not seconds or (sum(seconds) < _ENOUGH_SECONDS[device] and len(seconds) < _MAX_CALLS):
        seconds.append(seconds_of(run, device))
    return statistics.median(seconds)


class MemoryWatch:
    """Watches GPU memory while its body runs. It asks the driver every 2 ms, which disturbs timings.

    Attributes:
        peak_bytes: peak GPU memory of all processes above its value at the start; None without a GPU.
    """

    def __init__(self, device: str) -> None:
        self.peak_bytes: int | None = None
        self._watched = device == "cuda"
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        if self._watched:
            self._start = _used_bytes()
            self.peak_bytes = 0
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watched:
            self._stop.set()
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.peak_bytes = max(self.peak_bytes or 0, _used_bytes() - self._start)


def _used_bytes() -> int:
    import torch

    free, total = torch.cuda.mem_get_info()
    return int(total - free)
