"""Weights that ONNX Runtime gets in memory, because it would leave them mapped from their file.

ONNX Runtime maps external weights. It copies the weights of 2-D convolutions and matrix products into another layout
when it loads a graph. It reads all others from the file whenever it runs: biases, scales, and the weights of 3-D
convolutions (1.32). If a mapped file is cut short in place, which is how `cp new.safetensors bundle/` begins, the
process ends with SIGBUS. So these tensors are read here and handed over.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ...bundle.graph_contents import ExternalTensor, external_tensors

__all__ = ["HeldWeights"]

_SMALL_BYTES = 1 << 16
_CONVOLUTION_3D_RANK = 5
_DTYPES = {1: np.float32, 7: np.int64, 10: np.float16}  # by TensorProto.DataType
_MAPS = Path("/proc/self/maps")


class HeldWeights:
    """The tensors of one graph that its session takes from memory. Keep it as long as the session.

    Args:
        runtime: the `onnxruntime` module.
        graph: the ONNX file.
        every: hold all tensors, because the usual choice has left the file mapped. Tensors that ONNX Runtime copies
            then take memory twice.
    """

    def __init__(self, runtime: ModuleType, graph: Path, *, every: bool = False) -> None:
        tensors = external_tensors(graph)
        held = [one for one in tensors if one.data_type in _DTYPES and (every or _stays(one))]
        self._names = [tensor.name for tensor in held]
        self._values = [runtime.OrtValue.ortvalue_from_numpy(_read(graph.parent, tensor)) for tensor in held]
        self._files = {(graph.parent / tensor.location).resolve() for tensor in tensors}

    def give_to(self, options: Any) -> None:
        """Hand the tensors over in the `onnxruntime.SessionOptions` of the next session."""
        if self._names:
            options.add_external_initializers(self._names, self._values)

    @property
    def leave_a_file_mapped(self) -> bool:
        """Whether the process has one of the weights files mapped. False if the system does not say."""
        if sys.platform != "linux":
            return False
        endings = tuple(f" {file}\n" for file in self._files)
        try:
            with _MAPS.open(encoding="utf-8", errors="surrogateescape") as lines:
                return any(line.endswith(endings) for line in lines)
        except OSError:
            return False


def _stays(tensor: ExternalTensor) -> bool:
    """Whether ONNX Runtime would read a tensor from its file while it runs."""
    return tensor.length_bytes <= _SMALL_BYTES or len(tensor.shape) >= _CONVOLUTION_3D_RANK


def _read(folder: Path, tensor: ExternalTensor) -> Any:
    dtype = np.dtype(_DTYPES[tensor.data_type]).newbyteorder("<")
    count = tensor.length_bytes // dtype.itemsize
    values = np.fromfile(folder / tensor.location, dtype, count, offset=tensor.offset_bytes)
    return values.reshape(tensor.shape).astype(dtype.newbyteorder("="), copy=False)
