"""ONNX Runtime as a backend: whether a provider can run a bundle here, and how it opens graphs."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from ...bundle.graph import Graph
from ...system.cache_folder import cache_folder
from ..backend import Backend, BackendCapabilities, BackendRequest
from ..graph_files import content_name
from ..memory_model import LivenessBounds, MeasuredMemory, Reopening
from .arena import Arena, bookkeeping_bytes
from .component import OnnxRuntimeComponent, missing_provider, shared_arena
from .options import OnnxRuntimeOptions

__all__ = ["OnnxRuntimeBackend", "find_onnxruntime", "refusal_to_build"]

_log = logging.getLogger(__name__)
_ATTENTION_SCORE_COPIES = 2  # 2.1 GiB measured at 16384 latent cells, of which two copies of the scores are 2.0 GiB
_CALIBRATION_SHARE = 0.5  # in one arena memory is proportional to the size, in short calls too (docs/planner.md)
# 10 whole passes in benchmarks/planner.md held 1.03 to 1.35 times their live tensors, without library, weights and
# bookkeeping. A pass of another process took 1.25 times what it took before.
_LIVENESS = LivenessBounds(least=0.9, most=1.6, library_bytes=128 << 20, weight_copies=2.5, opening_copies=4.0)


class OnnxRuntimeBackend(Backend):
    """ONNX Runtime with one provider.

    Attributes:
        provider: "cpu", "cuda" or "tensorrt".
    """

    name = "onnxruntime"

    def __init__(self, request: BackendRequest, provider: str) -> None:
        self.provider = provider
        self.device = "cpu" if provider == "cpu" else "cuda"
        self.dtype = self.graph_dtype = request.dtype
        self.capabilities = BackendCapabilities(cpu_graphs=self.device == "cpu")
        self._request, self._options = request, OnnxRuntimeOptions.of(request.options)
        if provider == "cpu":
            reopening = Reopening(self.name, provider, request.dtype, request.threads, self._options.to_json())
            self.memory = MeasuredMemory(
                reopening, bookkeeping_bytes, _ATTENTION_SCORE_COPIES, _CALIBRATION_SHARE, _LIVENESS
            )

    @property
    def label(self) -> str:
        return f"{self.name}:{self.provider}"

    def open(self, graph: Graph, file: Path, *, dtype: str) -> OnnxRuntimeComponent:
        keeps_engines = self.provider == "tensorrt" and self._request.engines
        return OnnxRuntimeComponent(
            file,
            provider=self.provider,
            threads=self._request.threads,
            session_options=self._options,
            cache=_provider_cache(content_name(self._request.manifest, graph)) if keeps_engines else None,
        )

    def shared(self) -> Arena | None:
        return shared_arena(self.provider)


def find_onnxruntime(request: BackendRequest, provider: str) -> OnnxRuntimeBackend | str:
    """The backend, or the reason why it cannot run the bundle here as it was asked for.

    Raises:
        MissingExtra: ONNX Runtime is not installed.
    """
    if not request.holds_precision:
        return f"the bundle holds no {request.dtype} graphs"
    if provider == "cpu" and request.dtype == "bfloat16":
        return "ONNX Runtime has no bfloat16 convolution for the CPU"
    if not isinstance(request.options, Mapping | OnnxRuntimeOptions | None):
        return f"its session_options are OnnxRuntimeOptions or a mapping, got {type(request.options).__name__}"
    reason = missing_provider(provider) or refusal_to_build(request, provider)
    return reason or OnnxRuntimeBackend(request, provider)


def refusal_to_build(request: BackendRequest, provider: str) -> str | None:
    """Why ONNX Runtime's TensorRT, which builds engines of its own within calls, is refused; None if it is not."""
    if provider != "tensorrt":
        return None
    if not request.allow_build:
        return "it builds engines within calls, and allow_build=False forbids that: take backend='tensorrt'"
    if request.dtype == "float32" and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0":
        return (
            "it computes float32 with TF32's 10 bits of mantissa unless the environment has NVIDIA_TF32_OVERRIDE=0 "
            "when the process starts: set that, or take backend='tensorrt'"
        )
    return None


def _provider_cache(content: str) -> Path | None:
    """The folder for engines of that content. ONNX Runtime's TensorRT names engines by the graph, not the weights."""
    try:
        return cache_folder(f"onnxruntime-tensorrt/{content}")
    except OSError as error:
        _log.warning("ONNX Runtime builds its TensorRT engines anew each time: %s", error)
        return None
