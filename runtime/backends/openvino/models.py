"""The compiled models of one graph: the one for every size, and those of calls whose sizes are known.

A model is never used again after a call was cancelled while the model computed it. OpenVINO (2026.4) keeps sizes and
memory of the call that it broke off in the compiled model, and the next call of another size then gives wrong pixels,
a wrong shape or an error. The faulty state is the model's: a new request does not help.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self
from weakref import WeakKeyDictionary

from ...bundle.ports import CHUNK, FIRST, LAST
from ..component import CallScope

__all__ = ["Fit", "Models", "SharedModel"]

_TIME = 2
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Fit:
    """What a model is compiled for: the shapes of the inputs by name, and the values of whole numbers among them
    (`first` and `last` of a stream's step), on which shapes depend."""

    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    values: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, inputs: Mapping[str, Any]) -> Self:
        arrays = sorted(inputs.items())
        return cls(
            tuple((name, tuple(array.shape)) for name, array in arrays if array.dtype.kind != "i"),
            tuple((name, tuple(array.tolist())) for name, array in arrays if array.dtype.kind == "i"),
        )


class SharedModel:
    """One compiled model, which threads take turns with. OpenVINO runs one request of a model at a time anyway; the
    turn makes sure that a cancelled request leaves no other one half done in the same model.

    Attributes:
        compiled: OpenVINO's compiled model.
        is_spoiled: whether a call was cancelled, or failed, while the model computed it. Set without a lock, so that a
            cancellation never waits for a compilation.
    """

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self.is_spoiled = False
        self._turn = threading.Lock()

    @contextmanager
    def turn(self, call: CallScope) -> Iterator[None]:
        """Hold the model for one request.

        Raises:
            Cancelled: the call was cancelled while it waited.
        """
        while not self._turn.acquire(timeout=_POLL_SECONDS):
            call.check()
        try:
            yield
        finally:
            self._turn.release()


class Models:
    """`compiled` makes one, for a fit or (None) for every size. Calls with `CallScope.specialise` have one made for
    their sizes, others take it if it is there; those for which it is False never do. Thread-safe."""

    def __init__(self, compiled: Callable[[Fit | None], Any]) -> None:
        self._compiled = compiled
        self._every_size: SharedModel | None = SharedModel(compiled(None))
        # None: it was spoiled, and the next call of these sizes has it made again.
        self._whole: dict[Fit, SharedModel | None] = {}
        # By the inputs other than the chunk: the frames of the chunk, and the model.
        self._steps: dict[Fit, tuple[int, SharedModel | None]] = {}
        self._most: WeakKeyDictionary[CallScope, dict[Fit, int]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def for_every_size(self) -> SharedModel:
        """The model that takes every size; compiled again if it was spoiled."""
        with self._lock:
            self._drop_spoiled()
            if self._every_size is None:
                self._every_size = SharedModel(self._compiled(None))
            return self._every_size

    def of_call(self, inputs: Mapping[str, Any], call: CallScope) -> SharedModel:
        """The model for a whole pass."""
        if call.specialise is False:
            return self.for_every_size()
        fit = Fit.of(inputs)
        with self._lock:
            self._drop_spoiled()
            if call.specialise or fit in self._whole:
                model = self._whole.get(fit)
                if model is None:
                    model = self._whole[fit] = SharedModel(self._compiled(fit))
                return model
        return self.for_every_size()

    def of_step(self, inputs: Mapping[str, Any], call: CallScope) -> SharedModel:
        """The model for a step of a stream. A model of known sizes holds what it computes in for good, so there is one:
        for the steps of most frames between the first and the last one, made when the second of them comes. The last
        warm-up counts. Steps of exact strips have none."""
        at_an_end = any(inputs[name].any() for name in (FIRST, LAST) if name in inputs)
        if call.specialise is False or at_an_end or CHUNK not in inputs:
            return self.for_every_size()
        clip = Fit.of({name: array for name, array in inputs.items() if name != CHUNK})
        frames = inputs[CHUNK].shape[_TIME]
        with self._lock:
            self._drop_spoiled()
            if call.specialise:
                most = self._most.setdefault(call, {})
                if most.get(clip) == frames != self._step_of(clip)[0]:
                    self._steps.pop(clip, None)  # before the next one takes memory
                    self._steps[clip] = frames, SharedModel(self._compiled(Fit.of(inputs)))
                most[clip] = max(frames, most.get(clip, 0))
            fitted, model = self._step_of(clip)
            if fitted == frames:
                if model is None:
                    model = SharedModel(self._compiled(Fit.of(inputs)))
                    self._steps[clip] = frames, model
                return model
        return self.for_every_size()

    def drop_spoiled(self) -> None:
        """Free the models that were spoiled."""
        with self._lock:
            self._drop_spoiled()

    def _drop_spoiled(self) -> None:
        """The same, where the lock is held."""
        if self._every_size is not None and self._every_size.is_spoiled:
            self._every_size = None
        for fit, model in self._whole.items():
            if model is not None and model.is_spoiled:
                self._whole[fit] = None
        for clip, (frames, model) in self._steps.items():
            if model is not None and model.is_spoiled:
                self._steps[clip] = frames, None

    def _step_of(self, clip: Fit) -> tuple[int, SharedModel | None]:
        return self._steps.get(clip, (0, None))
