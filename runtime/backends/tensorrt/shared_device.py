"""The GPU, the library and the scratch memory that the engines of one autoencoder share."""

from dataclasses import dataclass
from typing import Any

from ...errors import InputError
from ...system.forked_process import keep_in_forked_child
from ..cuda.device_memory import MemoryLedger
from ..cuda.devices import Gpu
from ..cuda.workspaces import Workspaces
from .engine_log import engine_log
from .options import TensorRtOptions

__all__ = ["SharedDevice"]

_ALIGNMENT = 256  # bytes: TensorRT wants a workspace to begin at a multiple


class SharedDevice:
    """Encoder and decoder take turns with one workspace. With `contexts=N` there are N workspaces, and N calls compute
    at a time.

    Args:
        library: the TensorRT module.
        options: the GPU, its memory and the caller's workspace.
        ledger: counts the GPU memory.
        contexts: the number of workspaces.
        may_compile: whether a call may compile kernels for a size that was not warmed up.

    Raises:
        BackendUnavailable: no GPU answers. InputError: the workspace is no device memory.
    """

    def __init__(
        self,
        library: Any,
        options: TensorRtOptions,
        ledger: MemoryLedger,
        contexts: int = 1,
        *,
        may_compile: bool = True,
    ) -> None:
        self.library, self.may_compile = library, may_compile
        self.gpu = Gpu(options.device, ledger)
        self.log = engine_log(library)
        self.runtime = library.Runtime(self.log)
        owned = None if options.workspace is None else _OwnedWorkspace.of(*self.gpu.view_memory(options.workspace))
        self.workspaces = Workspaces(self.gpu, contexts, owned)
        keep_in_forked_child(self)


@dataclass(frozen=True, eq=False)
class _OwnedWorkspace:
    """Memory of the caller's, from its first aligned address on."""

    view: Any
    handle: int
    size: int

    @classmethod
    def of(cls, view: Any, address: int, size: int) -> "_OwnedWorkspace":
        handle = -(-address // _ALIGNMENT) * _ALIGNMENT
        left = size - (handle - address)
        if left < _ALIGNMENT:
            raise InputError(f"workspace: {size} bytes are too few for any call")
        return cls(view, handle, left)
