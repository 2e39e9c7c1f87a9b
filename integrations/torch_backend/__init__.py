"""PyTorch as a backend: the reference stages of the exporter run a bundle, whole, as streams and in strips.

`open_bundle(bundle, backend=TorchBackend())` needs no engine build and no ONNX Runtime, and runs on every device of
PyTorch. What belongs here is everything between the seam of `runtime/backends` and PyTorch: devices, precisions, loaded
models and their stages. The models themselves belong in `export/models`. The module `backend` imports no PyTorch; the
others do.
"""

from .backend import TorchBackend

__all__ = ["TorchBackend"]
