"""Options of TensorRT and TensorRT-RTX."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ....tiling.public_place import shown_in
from ...errors import InputError

__all__ = ["TensorRtOptions"]

_NAMES = ("device", "device_memory_bytes", "workspace")


@shown_in("latentrt.runtime")
@dataclass(frozen=True, eq=False)
class TensorRtOptions:
    """What `open_bundle(session_options=...)` takes for TensorRT and TensorRT-RTX.

    Attributes:
        device: the number of the GPU.
        device_memory_bytes: the most GPU memory, in bytes, for weights, activations, inputs and outputs together. None:
            as much as there is.
        workspace: GPU memory of the caller's for activations, a contiguous array with `__dlpack__` or
            `__cuda_array_interface__`. Nothing else may use it while a call runs. None: the engines allocate their own.

    Raises:
        InputError: a value of another kind.
    """

    device: int = 0
    device_memory_bytes: int | None = None
    workspace: Any = None

    def __post_init__(self) -> None:
        device, limit, workspace = self.device, self.device_memory_bytes, self.workspace
        if isinstance(device, bool) or not isinstance(device, int) or device < 0:
            raise InputError(f"session_options: device must be the number of a GPU, got {device!r}")
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise InputError(f"session_options: device_memory_bytes must be a whole number of bytes, got {limit!r}")
        readable = hasattr(workspace, "__dlpack__") or hasattr(workspace, "__cuda_array_interface__")
        if workspace is not None and not readable:
            raise InputError(f"session_options: workspace must be a device array, got {type(workspace).__name__}")

    @classmethod
    def of(cls, options: object) -> Self:
        """The options from a mapping of these names.

        Raises:
            InputError: another name, or neither a mapping, nor None, nor such options already.
        """
        if isinstance(options, cls):
            return options
        if options is None:
            return cls()
        if not isinstance(options, Mapping):
            raise InputError(
                f"session_options: TensorRT takes TensorRtOptions or a mapping, got {type(options).__name__}"
            )
        unknown = [name for name in options if name not in _NAMES]
        if unknown:
            raise InputError(f"session_options: TensorRT takes {', '.join(_NAMES)}, got {', '.join(unknown)}")
        return cls(**options)
