"""The compiled models of one graph: one for every size, and further ones for calls whose sizes are known.

A model is never used again after a call was cancelled while the model computed it. OpenVINO (2026.4) keeps the sizes
and the memory of the cancelled call in the compiled model, and the next call of another size then gives wrong pixels, a
wrong shape or an error. The faulty state is in the model, so a new request does not help.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self
from weakref import WeakKeyDictionary

from ...bundle.ports import CHUNK, FIRST, LAST
from ..component import CallScope

__all__ = ["FixedSizes", "Models", "SharedModel"]

_TIME = 2
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class FixedSizes:
    """The sizes that a model is compiled for.

    Attributes:
        shapes: the shapes of the inputs, by name.
        values: the values of inputs that are whole numbers (`first` and `last` of a stream's step), by name. Shapes
            depend on them.
    """

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
    """One compiled model, which threads use in turns. OpenVINO runs one request of a model at a time anyway. The turn
    makes sure that no other request is half done in the model when one is cancelled.

    Attributes:
        compiled: OpenVINO's compiled model.
        sizes: the sizes that it was compiled for. None: it takes every size.
        is_spoiled: whether a call was cancelled, or failed, while the model computed it. Set without a lock, so that a
            cancellation never waits for a compilation.
    """

    def __init__(self, compiled: Any, sizes: FixedSizes | None = None) -> None:
        self.compiled, self.sizes = compiled, sizes
        self.is_spoiled = False
        self._turn = threading.Lock()

    @contextmanager
    def turn(self, call: CallScope) -> Iterator[None]:
        """Hold the model for one request.

        Raises:
            Cancelled: the call was cancelled while it waited for the model.
        """
        while not self._turn.acquire(timeout=_POLL_SECONDS):
            call.check()
        try:
            yield
        finally:
            self._turn.release()


class Models:
    """The models of one graph. Thread-safe.

    A call with `CallScope.specialise` gets a model for its sizes, which is compiled if there is none. Other calls use
    that model if it is there, unless `specialise` is False.

    Args:
        compiled: compiles a model for the given sizes, or for every size (None).
    """

    def __init__(self, compiled: Callable[[FixedSizes | None], Any]) -> None:
        self._compiled = compiled
        self._every_size: SharedModel | None = SharedModel(compiled(None))
        # None: the model was spoiled, and the next call of these sizes compiles it again.
        self._whole: dict[FixedSizes, SharedModel | None] = {}
        # By the inputs other than the chunk: the frames of the chunk, and the model.
        self._steps: dict[FixedSizes, tuple[int, SharedModel | None]] = {}
        self._most: WeakKeyDictionary[CallScope, dict[FixedSizes, int]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    @property
    def held(self) -> tuple[SharedModel, ...]:
        """The models that take memory now."""
        with self._lock:
            kept = (self._every_size, *self._whole.values(), *(model for _, model in self._steps.values()))
            return tuple(model for model in kept if model is not None)

    def for_every_size(self) -> SharedModel:
        """The model that takes every size. It is compiled again if it was spoiled."""
        with self._lock:
            self._drop_spoiled()
            if self._every_size is None:
                self._every_size = SharedModel(self._compiled(None))
            return self._every_size

    def of_call(self, inputs: Mapping[str, Any], call: CallScope) -> SharedModel:
        """The model for a whole pass."""
        if call.specialise is False:
            return self.for_every_size()
        sizes = FixedSizes.of(inputs)
        with self._lock:
            self._drop_spoiled()
            if call.specialise or sizes in self._whole:
                model = self._whole.get(sizes)
                if model is None:
                    model = self._whole[sizes] = self._made(sizes)
                return model
        return self.for_every_size()

    def of_step(self, inputs: Mapping[str, Any], call: CallScope) -> SharedModel:
        """The model for a step of a stream. A model for known sizes keeps its working memory, so a stream has one such
        model. It takes the steps of most frames between the first step and the last, and is compiled when the second of
        them comes. A new warm-up replaces it. Steps of strips have none."""
        at_an_end = any(inputs[name].any() for name in (FIRST, LAST) if name in inputs)
        if call.specialise is False or at_an_end or CHUNK not in inputs:
            return self.for_every_size()
        clip = FixedSizes.of({name: array for name, array in inputs.items() if name != CHUNK})
        frames = inputs[CHUNK].shape[_TIME]
        with self._lock:
            self._drop_spoiled()
            if call.specialise:
                most = self._most.setdefault(call, {})
                if most.get(clip) == frames != self._step_of(clip)[0]:
                    self._steps.pop(clip, None)  # freed before the next model takes memory
                    self._steps[clip] = frames, self._made(FixedSizes.of(inputs))
                most[clip] = max(frames, most.get(clip, 0))
            of_frames, model = self._step_of(clip)
            if of_frames == frames:
                if model is None:
                    model = self._made(FixedSizes.of(inputs))
                    self._steps[clip] = frames, model
                return model
        return self.for_every_size()

    def drop_spoiled(self) -> None:
        """Free the models that were spoiled."""
        with self._lock:
            self._drop_spoiled()

    def _drop_spoiled(self) -> None:
        """`drop_spoiled`, if the lock is held."""
        if self._every_size is not None and self._every_size.is_spoiled:
            self._every_size = None
        for sizes, model in self._whole.items():
            if model is not None and model.is_spoiled:
                self._whole[sizes] = None
        for clip, (frames, model) in self._steps.items():
            if model is not None and model.is_spoiled:
                self._steps[clip] = frames, None

    def _made(self, sizes: FixedSizes) -> SharedModel:
        return SharedModel(self._compiled(sizes), sizes)

    def _step_of(self, clip: FixedSizes) -> tuple[int, SharedModel | None]:
        return self._steps.get(clip, (0, None))
