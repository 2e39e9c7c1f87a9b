"""TensorRT and TensorRT-RTX as backends: whether the bundle's engines run here, and how they are opened."""

from pathlib import Path
from typing import TYPE_CHECKING

from ...bundle.graph import Graph
from ...bundle.profiles import Profile
from ...errors import BackendUnavailable, InputError
from ..backend import Backend, BackendCapabilities, BackendRequest
from ..component import Component
from ..memory_model import RecordedMemory
from .opener import EngineOpener, missing_library
from .options import TensorRtOptions

if TYPE_CHECKING:
    from .shared_device import SharedDevice

__all__ = ["TensorRtBackend", "find_tensorrt"]

_CALLS_IN_FLIGHT = 2  # the copies of one call run during the computation of the other
_NO_ENGINES = (
    "engines are compiled code, and they are not loaded with engines=False, nor with digest= alone, which does not "
    "cover them: take another backend, or pass engines=True if you trust the people who built them"
)


class TensorRtBackend(Backend):
    """The engines that `opener` opens, in one precision, on one GPU."""

    device = "cuda"
    capabilities = BackendCapabilities(calls_in_flight=_CALLS_IN_FLIGHT, callers_stream=True, any_size=False)

    def __init__(self, name: str, dtype: str, opener: EngineOpener) -> None:
        self.name, self._opener = name, opener
        self.dtype = self.graph_dtype = dtype
        self.memory = RecordedMemory(opener.engines, opener.free_bytes, tiles_at_once=_CALLS_IN_FLIGHT)

    def open(self, graph: Graph, file: Path, *, dtype: str) -> Component:
        return self._opener.open(file)

    def profiles(self, graph: Graph) -> tuple[Profile, ...]:
        return self._opener.profiles(graph)

    def shared(self) -> "SharedDevice":
        return self._opener.shared()


def find_tensorrt(request: BackendRequest, library: str, *, every: bool) -> TensorRtBackend | str:
    """The backend, or the reason why it cannot run the bundle here: the library, the driver, the GPU, or no engine
    that fits it.

    Args:
        request: what the user asked for.
        library: "tensorrt" or "tensorrt-rtx".
        every: each component needs an engine. If False, one engine of any graph is enough.
    """
    if not request.holds_precision:
        return f"the bundle holds no {request.dtype} graphs"
    if not request.engines:
        return _NO_ENGINES
    try:
        options = TensorRtOptions.of(request.options)
    except InputError as error:
        return missing_library(library) or str(error)
    reason = missing_library(library, options.device)
    if reason is not None:
        return reason
    try:
        opener = EngineOpener(request.manifest, library, request.contexts, options, may_compile=request.allow_build)
    except BackendUnavailable as error:
        return str(error)
    return opener.unusable(request.dtype, every=every) or TensorRtBackend(library, request.dtype, opener)
