"""A checkpoint as a value: a config, and tensors that are read when they are needed."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...runtime.config import AutoencoderKLConfig, ModelConfig
from ...runtime.errors import CheckpointError

__all__ = ["Checkpoint", "LazyTensor"]


@dataclass(frozen=True)
class LazyTensor:
    """A tensor in a file: its shape and stored dtype, and a function that reads it as float32."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], NDArray[np.float32]]

    def reshaped(self, shape: tuple[int, ...]) -> "LazyTensor":
        return LazyTensor(shape, self.dtype, lambda: self.read().reshape(shape))


@dataclass(frozen=True)
class Checkpoint:
    """`tensors` are named as diffusers names the parameters of the config's class."""

    source: Path
    config: ModelConfig
    tensors: Mapping[str, LazyTensor]

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
                    f"({_first(names)}); is config.json the one that came with these weights?"
                )
        wrong = [name for name, shape in expected.items() if self.tensors[name].shape != tuple(shape)]
        if wrong:
            name = wrong[0]
            raise CheckpointError(
                f"{self.source}: the weights do not fit the config of {self.config.family}: {len(wrong)} tensors have "
                f"another shape (first: {name} is {list(self.tensors[name].shape)}, the config says "
                f"{list(expected[name])}); is config.json the one that came with these weights?"
            )
        return self

    def with_statistics(self) -> "Checkpoint":
        """This checkpoint with the buffers latents_mean and latents_std copied into the config, where they exist."""
        if isinstance(self.config, AutoencoderKLConfig) or "latents_mean" not in self.tensors:
            return self
        mean, std = (tuple(map(float, self.tensors[name].read())) for name in ("latents_mean", "latents_std"))
        return dataclasses.replace(self, config=dataclasses.replace(self.config, latents_mean=mean, latents_std=std))


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
