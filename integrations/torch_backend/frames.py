"""Frames that go from one stage of a stream to the next as a tensor of PyTorch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["TorchFrames"]


@dataclass(frozen=True, eq=False)
class TorchFrames:
    """Frames, or a state, on the backend's device.

    Attributes:
        tensor: (B, C, T, H, W), in the precision of the computation.
    """

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    def frames(self, start: int, stop: int) -> "TorchFrames":
        """The frames from start to stop, without a copy."""
        return TorchFrames(self.tensor[:, :, start:stop])

    def joined(self, others: Sequence["TorchFrames"]) -> "TorchFrames":
        """These frames and then the frames of others, C-contiguous."""
        parts = [self.tensor, *(one.tensor for one in others)]
        return TorchFrames(torch.cat(parts, dim=2) if others else self.tensor.contiguous())

    def numpy(self) -> NDArray[np.float32]:
        """The values on the host, float32, in an array that may share the tensor's memory."""
        values: NDArray[np.float32] = self.tensor.float().cpu().contiguous().numpy()
        return values
