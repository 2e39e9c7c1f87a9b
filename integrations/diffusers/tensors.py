"""Tensors of PyTorch become arrays of the runtime, and results become tensors again."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.utils.dlpack
from numpy.typing import NDArray

__all__ = ["TensorPlace", "cuda_stream_of", "given_tensor"]


@dataclass(frozen=True)
class TensorPlace:
    """Where the tensors of a call are, and in which dtype: the result has the same.

    Attributes:
        device: the device of the input tensor.
        dtype: its dtype, floating-point.
    """

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: torch.Tensor) -> "TensorPlace":
        """The place of an input tensor."""
        return cls(tensor.device, tensor.dtype)

    def from_host(self, array: NDArray[np.float32]) -> torch.Tensor:
        """A result on the host, float32 of any shape, as a tensor at this place. It shares memory where it can."""
        return torch.from_numpy(array).to(self.device, self.dtype)

    def from_device(self, result: Any) -> torch.Tensor:
        """A result on the engine's device (an object with `__dlpack__`) as a tensor at this place."""
        return torch.utils.dlpack.from_dlpack(result).to(self.device, self.dtype)

    def empty(self, shape: tuple[int, ...]) -> torch.Tensor:
        """A tensor at this place whose values are not set."""
        return torch.empty(shape, device=self.device, dtype=self.dtype)


def given_tensor(tensor: torch.Tensor, *, on_device: bool) -> Any:
    """The values of a tensor in the form that the runtime takes, float32 in the same axes.

    Args:
        tensor: floating-point values in any dtype, on any device.
        on_device: leave the values on their CUDA device.

    Returns:
        A contiguous tensor on its device, or else a NumPy array, which shares the tensor's memory where it can.
    """
    values = tensor.detach()
    if on_device:
        return values.float().contiguous()
    return values.to("cpu", torch.float32).contiguous().resolve_neg().numpy()


def cuda_stream_of(tensor: torch.Tensor) -> int:
    """The CUDA stream in which PyTorch works now on the device of a tensor, as a pointer."""
    return int(torch.cuda.current_stream(tensor.device).cuda_stream)
