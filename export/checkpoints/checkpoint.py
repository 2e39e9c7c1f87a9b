"""A checkpoint as a value: a config, and tensors that are read on demand."""

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

__all__ = ["CONFIG_QUESTION", "Checkpoint", "LazyTensor"]

# Ends the message about weights that do not fit their config.json.
CONFIG_QUESTION = "is config.json the one that came with these weights?"


@dataclass(frozen=True)
class LazyTensor:
    """A tensor in a file, read on demand.

    Attributes:
        shape: sizes of the axes.
        dtype: stored dtype, for display.
        read: reads the values as float32.
    """

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
    """A config and the tensors of its model.

    Attributes:
        source: the folder or file.
        config: the model's config.
        tensors: the tensors by the names that diffusers gives the parameters of the config's class.
        format: description of the source's format.
        variant: name of the published model; "" if it is unknown.
        notes: assumptions that were made, each a sentence.
        question: ends the message about weights that do not fit the config.
        statistics: fields of the config for the buffers that hold statistics of the latents, by name of the buffer.
        files: the files that were read; empty for weights that are in memory.
    """

    source: Path
    config: ModelConfig
    tensors: Mapping[str, LazyTensor]
    format: str = "diffusers folder"
    variant: str = ""
    notes: tuple[str, ...] = ()
    question: str = CONFIG_QUESTION
    statistics: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @property
    def parameter_count(self) -> int:
        """Number of elements of all tensors."""
        return sum(int(np.prod(tensor.shape, dtype=np.int64)) for tensor in self.tensors.values())

    def checked(self, expected: Mapping[str, tuple[int, ...]]) -> "Checkpoint":
        """Check that the tensors are exactly the parameters of the model.

        Args:
            expected: shape of every parameter and buffer of the model, by its name.

        Returns:
            This checkpoint.

        Raises:
            CheckpointError: tensors are missing, unknown or of a wrong shape; the message lists the first few.
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
        """Return this checkpoint with tensors whose `read` raises CheckpointError if they hold NaN or infinity."""

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
            f"{self.source}: weights are NaN or infinite ({bad}), so every picture would be NaN or infinite too: "
            f"the file is damaged; fetch it again"
        )

    def with_statistics(self) -> "Checkpoint":
        """Return this checkpoint with the statistics of the latents copied from its buffers into the config.

        A checkpoint without such buffers is returned unchanged.
        """
        if not self.statistics or not self.tensors.keys() >= self.statistics.keys():
            return self
        read: dict[str, Any] = {
            own: tuple(map(float, self.tensors[name].read())) for name, own in self.statistics.items()
        }
        return dataclasses.replace(self, config=dataclasses.replace(self.config, **read))
