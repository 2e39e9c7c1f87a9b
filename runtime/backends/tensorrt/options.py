"""What `session_options` may hold for TensorRT."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ...errors import InputError

__all__ = ["DeviceOptions"]

_NAMES = ("device", "device_memory_bytes", "workspace")


@dataclass(frozen=True, eq=False)
class DeviceOptions:
    """`device`: the GPU's number. `memory_bytes`: the most device memory for weights, activations, inputs and outputs
    together (None: what there is). `workspace`: device memory of the caller's for activations, a contiguous array with
    `__dlpack__` or `__cuda_array_interface__`; nobody else may use it while a call runs."""

    device: int = 0
    memory_bytes: int | None = None
    workspace: Any = None

    @classmethod
    def of(cls, session_options: Mapping[str, Any] | None) -> Self:
        """The options by the names that a caller gives.

        Raises:
            InputError: another name, or a value of another kind.
        """
        options = dict(session_options or {})
        unknown = [name for name in options if name not in _NAMES]
        if unknown:
            raise InputError(f"session_options: TensorRT takes {', '.join(_NAMES)}, got {', '.join(unknown)}")
        device, limit, workspace = options.get("device", 0), *(options.get(name) for name in _NAMES[1:])
        if isinstance(device, bool) or not isinstance(device, int) or device < 0:
            raise InputError(f"session_options: device must be the number of a GPU, got {device!r}")
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise InputError(f"session_options: device_memory_bytes must be a whole number of bytes, got {limit!r}")
        readable = hasattr(workspace, "__dlpack__") or hasattr(workspace, "__cuda_array_interface__")
        if workspace is not None and not readable:
            raise InputError(f"session_options: workspace must be a device array, got {type(workspace).__name__}")
        return cls(device, limit, workspace)
