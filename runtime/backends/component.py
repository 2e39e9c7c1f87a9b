"""One graph that is ready to run, and what it can do."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, cast

from numpy.typing import NDArray

from ...tiling.public_place import shown_in
from ..errors import BackendUnavailable, Cancelled, EngineError

__all__ = ["CallScope", "Component", "ComponentCapabilities", "NotFinite", "SteppingComponent", "stepping"]


class NotFinite(EngineError):
    """An engine counted NaN and infinity in its result: `bad` of `size` values."""

    def __init__(self, bad: int, size: int) -> None:
        super().__init__(f"{bad} of {size} values are NaN or infinite")
        self.bad, self.size = bad, size

    def __reduce__(self) -> tuple[type[Self], tuple[int, int]]:
        """Pickled by its numbers, from which the message is made."""
        return type(self), (self.bad, self.size)


@shown_in("latentrt.runtime")
class CallScope:
    """One user call in flight. Any thread may call `cancel()`. A backend that can stop a running engine registers
    how with `on_cancel`, and all other code asks `check()` between two engine calls.

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

    def after_fork(self) -> None:
        """Let go of the running engine, which runs in the parent process alone."""
        self._lock, self._stop = threading.RLock(), None

    def on_cancel(self, stop: Callable[[], None] | None) -> None:
        """Set the function that interrupts the next engine call, or None when that call is over."""
        with self._lock:
            self._stop = stop
            if stop is not None and self._cancelled:
                stop()


@shown_in("latentrt.runtime")
@dataclass(frozen=True)
class ComponentCapabilities:
    """What a component takes beyond the arguments that every component takes.

    Attributes:
        steps: it is a `SteppingComponent`, so streams and strips run in it.
        pixels: `run` and `step` take `pixels=True`. The result is then uint8, channels last, (B, H, W, C) or
            (B, T, H, W, C), and was converted where the engine runs.
        counts_nonfinite: it counts NaN and infinity in each result itself, and raises `NotFinite` where there are any.
        keeps_results: `step` takes `keep_result=True`. The result then stays on the device, for the next stage.
        reuses_states: `step` takes `in_place=True`. It may then write the next states over the states it was given.
    """

    steps: bool = False
    pixels: bool = False
    counts_nonfinite: bool = False
    keeps_results: bool = False
    reuses_states: bool = False


@shown_in("latentrt.runtime")
class Component(Protocol):
    """One graph, ready to run. Threads may share it. It is freed with its last reference, never during a call."""

    @property
    def capabilities(self) -> ComponentCapabilities:
        """What else `run`, and `step` if there is one, take."""
        ...

    def run(
        self,
        inputs: Mapping[str, Any],
        *,
        call: CallScope,
        out: NDArray[Any] | None = None,
        keep_on_device: bool = False,
    ) -> Any:
        """Run the graph once.

        Args:
            inputs: arrays by input name: float32 NumPy arrays or, if the backend takes them, device arrays.
            call: the user call that this engine call belongs to.
            out: float32, C-contiguous, of the output's shape. The result is written there and returned.
            keep_on_device: give an object with `__dlpack__` on the backend's device.

        A component with `capabilities.pixels` also takes `pixels`. A component of a backend with
        `capabilities.callers_stream` also takes `stream`, the pointer of a CUDA stream.

        Returns:
            The graph's output as a float32 array that the caller owns, unless an argument says otherwise.

        Raises:
            EngineError: the engine fails. Cancelled: `call` was cancelled meanwhile.
        """
        ...


class SteppingComponent(Component, Protocol):
    """A component that also runs one step of a stream, or one tile of a strip."""

    def step(
        self, inputs: Mapping[str, Any], *, call: CallScope, last: bool = False, out: NDArray[Any] | None = None
    ) -> dict[str, Any]:
        """Run one step.

        Args:
            inputs: arrays by input name. A state may be a value that an earlier step gave.
            call: the user call that this step belongs to.
            last: no step follows, so the states may be left out.
            out: C-contiguous, of the first output's shape and dtype. The first output is written there.

        `capabilities` says whether it takes `keep_result`, `in_place` and `pixels` too.

        Returns:
            The outputs by name. The first is an array. States are in the form that the backend keeps best.

        Raises:
            EngineError: the engine fails. Cancelled: `call` was cancelled meanwhile.
        """
        ...


def stepping(component: Component, refusal: str) -> SteppingComponent:
    """The component, known to have `step`.

    Raises:
        BackendUnavailable: it has no `step`. The message is `refusal`.
    """
    if not component.capabilities.steps:
        raise BackendUnavailable(refusal)
    return cast(SteppingComponent, component)
