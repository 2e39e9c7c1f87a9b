"""What an autoencoder needs of a backend: one graph that turns arrays into an array."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from ..errors import Cancelled, EngineError

__all__ = ["CallScope", "Component", "NotFinite"]


class NotFinite(EngineError):
    """`bad` of `size` values of a result are NaN or infinite, and the engine said so itself."""

    def __init__(self, bad: int, size: int) -> None:
        super().__init__(f"{bad} of {size} values are NaN or infinite")
        self.bad, self.size = bad, size


class CallScope:
    """One user call in flight. `cancel()` may come from any thread; a backend that can stop a running engine
    registers how with `on_cancel`, and all other code asks `check()` between two engine calls.

    `specialise`: True if more calls of these shapes will follow, so that a backend may compile for the shape now and
    run faster later. False if the backend must not use what it compiled for a shape, because that holds more memory.
    `peak_estimate_bytes`: an upper estimate of what one engine call holds at once, for a backend that reserves memory
    before the call."""

    def __init__(self, *, specialise: bool | None = None, peak_estimate_bytes: int = 0) -> None:
        self.specialise, self.peak_estimate_bytes = specialise, peak_estimate_bytes
        self._lock = threading.RLock()  # a signal handler may cancel anywhere, within the lock too
        self._cancelled = False
        self._stop: Callable[[], None] | None = None

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            if self._stop is not None:
                self._stop()

    def check(self) -> None:
        """Raise `Cancelled` if the call was cancelled."""
        if self._cancelled:
            raise Cancelled("the call was cancelled; the autoencoder can be used again")

    def on_cancel(self, stop: Callable[[], None] | None) -> None:
        """Set what interrupts the engine call that is about to run, or None when it is over."""
        with self._lock:
            self._stop = stop
            if stop is not None and self._cancelled:
                stop()


class Component(Protocol):
    """One graph, ready to run.

    `run` takes arrays by input name (float32 NumPy arrays or, where the backend runs there, device arrays) and gives
    the graph's output as a float32 array that the caller owns. With `out` (float32, C-contiguous, of the output's
    shape) the result is written there and returned. With `keep_on_device` the result is an object with `__dlpack__`
    on the backend's device. It raises `EngineError`, or `Cancelled` if `call` was cancelled meanwhile. Threads may
    share it. It is freed with its last reference: nobody closes it under a running call.

    Some take more, and say so: `pixels=True` (uint8, channels last, converted on the device) where `gives_pixels` is
    true; `stream` (a CUDA stream of the caller's) where the backend `takes_stream`.
    """

    def run(
        self,
        inputs: Mapping[str, Any],
        *,
        call: CallScope,
        out: NDArray[Any] | None = None,
        keep_on_device: bool = False,
    ) -> Any: ...
