"""OpenVINO as a backend: whether it can run a bundle here, and how it opens graphs."""

from collections.abc import Mapping
from pathlib import Path

from ...bundle.graph import Graph
from ..backend import Backend, BackendRequest
from ..graph_files import content_name, file_hashes, weights_bytes
from ..memory_model import LivenessBounds, MeasuredMemory, Reopening
from .cache import kept_digests
from .component import OpenVinoComponent, missing_openvino
from .shared_model import WorkingMemory

__all__ = ["OpenVinoBackend", "find_openvino"]

# A compiled model is a copy of the weights. LTX-2's decoder takes 4 s to write and saves a second of each later start.
_MOST_CACHED_BYTES = 512 << 20
# 5 whole passes in benchmarks/planner.md held 1.55 to 2.73 times their live tensors, without library and weights.
# Passes of other models held up to 3.4 times these.
_LIVENESS = LivenessBounds(
    least=1.0, most=3.5, library_bytes=256 << 20, weight_copies=4.0, opening_copies=6.0, each_engine_keeps=True
)


class OpenVinoBackend(Backend):
    """OpenVINO on the CPU. It runs the bundle's float32 graphs, and lowers them to bfloat16 itself."""

    name = "openvino"

    def __init__(self, request: BackendRequest) -> None:
        self.dtype = request.dtype
        self.memory = MeasuredMemory(Reopening(self.name, None, request.dtype, request.threads), liveness=_LIVENESS)
        self._request = request
        self._working_memory = WorkingMemory()

    def open(self, graph: Graph, file: Path, *, dtype: str) -> OpenVinoComponent:
        manifest = self._request.manifest
        is_large = weights_bytes(manifest, graph) > _MOST_CACHED_BYTES
        return OpenVinoComponent(
            file,
            dtype=dtype,
            threads=self._request.threads,
            key="" if is_large else content_name(manifest, graph),
            files=file_hashes(manifest, graph),
            memory=self._working_memory,
        )

    def kept_models(self, graph: Graph) -> Mapping[str, str]:
        manifest = self._request.manifest
        is_large = weights_bytes(manifest, graph) > _MOST_CACHED_BYTES
        return {} if is_large else kept_digests(content_name(manifest, graph))


def find_openvino(request: BackendRequest) -> OpenVinoBackend | str:
    """The backend, or the reason why it cannot run the bundle here as it was asked for.

    Raises:
        MissingExtra: OpenVINO is not installed.
    """
    if request.options is not None:
        return "session_options are ONNX Runtime's or TensorRT's, and OpenVINO takes none"
    reason = missing_openvino(request.dtype)
    if reason is not None:
        return reason
    if not any(graph.dtype == "float32" for graph in request.manifest.graphs):
        return "it runs the bundle's float32 graphs, and this bundle holds none: export with --dtype float32 too"
    return OpenVinoBackend(request)
