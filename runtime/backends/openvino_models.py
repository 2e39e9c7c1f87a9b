"""The compiled models of one graph: the one for every size, and those of calls whose sizes are known."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from weakref import WeakKeyDictionary

from ..component import Call

__all__ = ["Fit", "Models"]

_CHUNK = "chunk"  # the frames that a step of a stream takes; its other inputs are the same size from step to step
_TIME = 2


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


class Models:
    """`compiled` makes one, for a fit or (None) for every size. Calls with `Call.fits` have one made for their sizes,
    others take it if it is there; those for which it is False never do. Threads may share this."""

    def __init__(self, compiled: Callable[[Fit | None], Any]) -> None:
        self._compiled = compiled
        self.for_every_size = compiled(None)
        self._whole: dict[Fit, Any] = {}
        self._steps: dict[Fit, tuple[int, Any]] = {}  # by the inputs beside the chunk: frames of the chunk, and model
        self._most: WeakKeyDictionary[Call, dict[Fit, int]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def of_call(self, inputs: Mapping[str, Any], call: Call) -> Any:
        """The model for a whole pass."""
        if call.fits is False:
            return self.for_every_size
        fit = Fit.of(inputs)
        if call.fits:
            with self._lock:
                if fit not in self._whole:
                    self._whole[fit] = self._compiled(fit)
        return self._whole.get(fit, self.for_every_size)

    def of_step(self, inputs: Mapping[str, Any], call: Call) -> Any:
        """The model for a step of a stream. A model of known sizes holds what it computes in for good, so there is one:
        for the steps of most frames between the first and the last one, made when the second of them comes. The last
        warm-up counts. Steps of exact strips have none."""
        at_an_end = any(inputs[name].any() for name in ("first", "last") if name in inputs)
        if call.fits is False or at_an_end or _CHUNK not in inputs:
            return self.for_every_size
        clip = Fit.of({name: array for name, array in inputs.items() if name != _CHUNK})
        frames = inputs[_CHUNK].shape[_TIME]
        if call.fits:
            with self._lock:
                most = self._most.setdefault(call, {})
                if most.get(clip) == frames != self._step_of(clip)[0]:
                    self._steps.pop(clip, None)  # before the next one takes memory
                    self._steps[clip] = frames, self._compiled(Fit.of(inputs))
                most[clip] = max(frames, most.get(clip, 0))
        fitted, model = self._step_of(clip)
        return model if fitted == frames else self.for_every_size

    def _step_of(self, clip: Fit) -> tuple[int, Any]:
        return self._steps.get(clip, (0, None))
