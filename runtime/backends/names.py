"""The names of backends and of ONNX Runtime's providers, as types for signatures, and of TensorRT's libraries."""

from typing import Literal

__all__ = ["LIBRARIES", "BackendName", "EngineBackendName", "ProviderName"]

BackendName = Literal["auto", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"]
"""The backend of an open bundle. "auto" takes the fastest backend that can run."""
EngineBackendName = Literal["tensorrt", "tensorrt-rtx"]
"""The backends whose engines `latentrt build` makes."""
ProviderName = Literal["cpu", "cuda", "tensorrt"]
"""The provider of ONNX Runtime."""
LIBRARIES: dict[str, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""The Python module of each backend that runs built engines."""
