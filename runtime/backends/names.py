"""The names of backends and of ONNX Runtime's providers, as types for signatures."""

from typing import Literal

__all__ = ["BackendName", "EngineBackendName", "ProviderName"]

BackendName = Literal["auto", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"]
"""The backend of an open bundle. "auto" takes the fastest backend that can run."""
EngineBackendName = Literal["tensorrt", "tensorrt-rtx"]
"""The backends whose engines `latentrt build` makes."""
ProviderName = Literal["cpu", "cuda", "tensorrt"]
"""The provider of ONNX Runtime."""
