"""A checkpoint as a value: a config, and tensors that are read when they are needed."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.config.model_config import ModelConfig
from ...runtime.errors import CheckpointError
from .listing import listed

__all__ = ["CONFIG_BESIDE", "Checkpoint", "LazyTensor"]

CONFIG_BESIDE = "is config.json the one that came with these weights?"


@dataclass(frozen=True)
class LazyTensor:
    """A tensor in a file: its shape and stored dtype, and a function that reads it as float32."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], NDArray[np.float32]]

    def reshaped(self, shape: tuple[int, ...]) -> "LazyTensor":
        return LazyTensor(shape, self.dtype, lambda: self.read().reshape(shape))

    def transposed(self, axes: tuple[int, ...]) -> "LazyTensor":
        shape = tuple(self.shape[axis] for axis in axes)
        return LazyTensor(shape, self.dtype, lambda: np.ascontiguousarray(self.read().transpose(axes)))


@dataclass(frozen=True)
class Checkpoint:
    """`tensors` are named as diffusers names the parameters of the config's class.

    `format` says what was read and `variant` which published model it is, "" where nothing tells. `notes` are the
    assumptions that were made, each a sentence. `question` ends the message about weights that do not fit.
    `statistics`: the config's field for each buffer that holds statistics of the latents, by the buffer's name.
    """

    source: Path
    config: ModelConfig
    tensors: Mapping[str, LazyTensor]
    format: str = "diffusers folder"
    variant: str = ""
    notes: tuple[str, ...] = ()
    question: str = CONFIG_BESIDE
    statistics: Mapping[str, str] = field(default_factory=dict)

    @property
    def parameter_count(self) -> int:
        return sum(int(np.prod(tensor.shape, dtype=np.int64)) for tensor in self.tensors.values())

    def checked(self, expected: Mapping[str, tuple[int, ...]]) -> "Checkpoint":
        """This checkpoint, after every parameter that the model has was found once, in the right shape.

        Raises:
            CheckpointError: missing, unknown or wrongly shaped tensors; the message lists the first few.
        """
        for problem, names in {
            "tensors are missing": sorted(expected.keys() - self.tensors.keys()),
            "tensors are not of this model": sorted(self.tensors.keys() - expected.keys()),
        }.items():
            if names:
                raise CheckpointError(
                    f"{self.source}: the weights do not fit the config of {self.config.family}: {len(names)} {problem} "
                    f"({listed(names)}); {self.question}"
                )
        wrong = [name for name, shape in expected.items() if self.tensors[name].shape != tuple(shape)]
        if wrong:
            name = wrong[0]
            others = f"; also {listed(wrong[1:])}" if wrong[1:] else ""
            raise CheckpointError(
                f"{self.source}: the weights do not fit the config of {self.config.family}: {len(wrong)} tensors have "
                f"another shape (first: {name} is {list(self.tensors[name].shape)}, the config says "
                f"{list(expected[name])}{others}); {self.question}"
            )
        return self

    def finite(self) -> "Checkpoint":
        """This checkpoint with tensors that refuse to be read where they hold NaN or infinity."""

        def guarded(tensor: LazyTensor) -> LazyTensor:
            def read() -> NDArray[np.float32]:
                values = tensor.read()
                if not np.isfinite(values).all():
                    raise CheckpointError(self._not_finite())
                return values

            return LazyTensor(tensor.shape, tensor.dtype, read)

        tensors = {name: guarded(tensor) for name, tensor in self.tensors.items()}
        return dataclasses.replace(self, tensors=tensors)

    def _not_finite(self) -> str:
        bad = listed(name for name, tensor in self.tensors.items() if not np.isfinite(tensor.read()).all())
        return (
            f"{self.source}: weights are NaN or infinite ({bad}), so every picture would be too: "
            f"the file is damaged; fetch it again"
        )

    def with_statistics(self) -> "Checkpoint":
        """This checkpoint with the buffers that hold the latents' statistics copied into the config, where they are."""
        if not self.statistics or not self.tensors.keys() >= self.statistics.keys():
            return self
        read: dict[str, Any] = {
            own: tuple(map(float, self.tensors[name].read())) for name, own in self.statistics.items()
        }
        return dataclasses.replace(self, config=dataclasses.replace(self.config, **read))
