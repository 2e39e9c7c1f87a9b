"""The compiled models of one graph: one for every size, and further ones for calls whose sizes are known.

A model is never used again after a call was cancelled while the model computed it. OpenVINO (2026.4) keeps the sizes
and the memory of the cancelled call in the compiled model, and the next call of another size then gives wrong pixels, a
wrong shape or an error. The faulty state is in the model, so a new request does not help.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from ...bundle.ports import CHUNK, FIRST, LAST
from ..component import CallScope
from .shared_model import FixedSizes, SharedModel

__all__ = ["FixedSizes", "Models", "SharedModel"]

_TIME = 2
_MOST_WEIGHTS_OVER_CHUNK = 4
"""A model for known sizes holds the weights of its graph once more. A stream compiles one unasked if the weights take
at most this many times the bytes of its chunk. (At a quarter of LTX-2's width, 544x768, these are the last three of six
stages, which run in 0.8 to 0.9 of the processor time of the model for every size.)"""


@dataclass(frozen=True)
class _StepModel:
    """The model for the steps of most frames of a stream.

    Attributes:
        frames: the frames of the chunk.
        model: None if it was spoiled, and the next step of so many frames compiles it again.
        asked: whether a warm-up asked for it. Then it keeps the memory that it computes in.
    """

    frames: int
    model: SharedModel | None
    asked: bool


class Models:
    """The models of one graph. Thread-safe.

    A call with `CallScope.specialise` gets a model for its sizes, which is compiled if there is none. Other calls use
    that model if it is there, unless `specialise` is False.

    Args:
        compiled: compiles a model for the given sizes, or for every size (None).
        weights_bytes: gives the bytes of the graph's weights, once the graph was compiled.
    """

    def __init__(self, compiled: Callable[[FixedSizes | None], Any], weights_bytes: Callable[[], int]) -> None:
        self._compiled = compiled
        self._weights_bytes = weights_bytes
        self._every_size: SharedModel | None = SharedModel(compiled(None))
        # None: the model was spoiled, and the next call of these sizes compiles it again.
        self._whole: dict[FixedSizes, SharedModel | None] = {}
        self._steps: dict[FixedSizes, _StepModel] = {}  # by the inputs other than the chunk
        # By call, and then as above: the most frames of its steps until now, and how many steps had so many.
        self._most: WeakKeyDictionary[CallScope, dict[FixedSizes, tuple[int, int]]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    @property
    def held(self) -> tuple[SharedModel, ...]:
        """The models that take memory now."""
        with self._lock:
            kept = (self._every_size, *self._whole.values(), *(step.model for step in self._steps.values()))
            return tuple(model for model in kept if model is not None)

    def for_every_size(self) -> SharedModel:
        """The model that takes every size. It is compiled again if it was spoiled."""
        with self._lock:
            self._drop_spoiled()
            return self._of_every_size()

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
        """The model for a step of a stream. A model for known sizes may keep its working memory, so a stream has one
        such model. It takes the steps of most frames between the first step and the last, and is compiled when the
        second of them comes. A new warm-up replaces it. Steps of strips have none.

        A warm-up asks for the model, and further streams then run all such steps in it. Other streams get one if it is
        small next to the chunk. They run in it from the second step on, whether or not an earlier stream compiled it,
        so that the numbers of a stream do not depend on earlier streams."""
        at_an_end = any(inputs[name].any() for name in (FIRST, LAST) if name in inputs)
        if call.specialise is False or at_an_end or CHUNK not in inputs:
            return self.for_every_size()
        clip = FixedSizes.of({name: array for name, array in inputs.items() if name != CHUNK})
        frames = inputs[CHUNK].shape[_TIME]
        with self._lock:
            self._drop_spoiled()
            step = self._steps.get(clip)
            asked, has_asked = bool(call.specialise), step is not None and step.asked
            if asked or not has_asked:
                is_small = self._weights_bytes() <= _MOST_WEIGHTS_OVER_CHUNK * inputs[CHUNK].nbytes
                if not asked and not is_small:
                    return self._of_every_size()
                number = self._counted(call, clip, frames)
                if number < 2 and not has_asked:
                    return self._of_every_size()
                if number == 2 and (step is None or step.frames != frames or has_asked != asked):
                    step = self._replaced_step(clip, frames, inputs, asked=asked)
            if step is None or step.frames != frames:
                return self._of_every_size()
            model = step.model or self._made(FixedSizes.of(inputs), asked=step.asked)
            self._steps[clip] = replace(step, model=model)
            return model

    def _replaced_step(self, clip: FixedSizes, frames: int, inputs: Mapping[str, Any], *, asked: bool) -> _StepModel:
        """A new model for steps, in place of the one before. Streams of many sizes leave one that was not asked for.

        Next to a model that was not asked for, the graph holds no other: the model for every size keeps the result of
        its last step, and is compiled again when the stream ends."""
        kept = {of: step for of, step in self._steps.items() if of != clip and (asked or step.asked)}
        self._steps = kept  # the others are freed before the next model takes memory
        if not asked:
            self._every_size = None
        kept[clip] = _StepModel(frames, self._made(FixedSizes.of(inputs), asked=asked), asked)
        return kept[clip]

    def _counted(self, call: CallScope, clip: FixedSizes, frames: int) -> int:
        """The number of the step among the call's steps of most frames. 0: earlier steps had more frames."""
        kept = self._most.setdefault(call, {})
        most, count = kept.get(clip, (0, 0))
        kept[clip] = max((most, count), (frames, 1 + (count if frames == most else 0)))
        return kept[clip][1] if frames >= most else 0

    def _of_every_size(self) -> SharedModel:
        """`for_every_size`, if the lock is held."""
        if self._every_size is None:
            self._every_size = SharedModel(self._compiled(None))
        return self._every_size

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
        for clip, step in self._steps.items():
            if step.model is not None and step.model.is_spoiled:
                self._steps[clip] = replace(step, model=None)

    def _made(self, sizes: FixedSizes, *, asked: bool = True) -> SharedModel:
        return SharedModel(self._compiled(sizes), sizes, keeps_memory=asked)
