"""PyTorch as a backend object for `open_bundle`."""

import copy
from pathlib import Path
from typing import TYPE_CHECKING

from ...runtime.arrays.kinds import DTYPES
from ...runtime.backends.backend import Backend, BackendCapabilities
from ...runtime.bundle.graph import Graph
from ...runtime.bundle.manifest import Manifest
from ...runtime.errors import InputError
from ...runtime.extras import require

if TYPE_CHECKING:
    import torch

    from .component import TorchComponent
    from .models import HeldModels

__all__ = ["TorchBackend"]


class TorchBackend(Backend):
    """Runs bundles in PyTorch: pass it to `open_bundle(bundle, backend=TorchBackend())`.

    Weights are read from the safetensors files of the bundle. ONNX files are not used, but the bundle must hold the
    graphs of what you ask for, which are streaming graphs for a stream, and strip graphs for strips. Autoencoders that
    were opened with one object share weights. Threads may share the object.

    Float32 is computed in full float32, without TF32. In a lower precision, norms are computed in float32, and a result
    with NaN or infinity is computed again in float32. A bundle with float32 graphs runs in each precision; other
    bundles run in the precision of their graphs.

    Calls are not planned: `memory=` is refused. Streams and strips hold little memory without a plan.

    Args:
        device: a device of PyTorch, such as "cuda", "cuda:1", "mps", "xpu" or "cpu", or a `torch.device`. "auto" takes
            the accelerator of this machine, or the CPU if there is none.
        dtype: "float32", "float16" or "bfloat16", or that `torch.dtype`. Give `open_bundle` the same `dtype`.
        channels_last: keep activations and weights with their channels innermost. Tensor cores take convolutions in
            this layout without a transposition. The results have the usual layout.

    Attributes:
        torch_device: the `torch.device`.
        channels_last: as given.
        manifest: the bundle that it runs; None for the object that you made.

    Raises:
        MissingExtra: PyTorch or onnx is not installed.
        BackendUnavailable: PyTorch has no such device here.
        InputError: a device or a precision that does not exist.
    """

    name = "torch"

    def __init__(
        self,
        device: "str | torch.device" = "auto",
        dtype: "str | torch.dtype" = "float32",
        *,
        channels_last: bool = False,
    ) -> None:
        require("torch", extra="torch")
        require("onnx", extra="torch")  # the exporter's stages stand next to their graphs
        from .devices import device_of
        from .models import ModelShelf

        precision = str(dtype).removeprefix("torch.")
        if precision not in DTYPES:
            raise InputError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        if not isinstance(channels_last, bool):
            raise InputError(f"channels_last must be True or False, got {channels_last!r}")
        self.torch_device = device_of(device)
        self.channels_last = channels_last
        self.device = self.torch_device.type
        self.dtype = precision
        self.capabilities = BackendCapabilities(callers_stream=self.device == "cuda")
        self.manifest: Manifest | None = None
        self._shelf = ModelShelf(self.torch_device, channels_last=channels_last)

    @property
    def label(self) -> str:
        return f"{self.name}:{self.torch_device}"

    def for_bundle(self, manifest: Manifest) -> "TorchBackend":
        """This backend, bound to a bundle: it lowers float32 graphs itself if the bundle holds them."""
        bound = copy.copy(self)
        bound.manifest = manifest
        held = {graph.dtype for graph in manifest.graphs}
        bound.graph_dtype = "float32" if "float32" in held else self.dtype
        return bound

    def open(self, graph: Graph, file: Path, *, dtype: str) -> "TorchComponent":
        from .component import TorchComponent

        manifest = self.manifest or Manifest.open(file.parent)
        weights = self._shelf.take(manifest.config, graph.component, manifest.path_of(graph.weights), dtype)
        return TorchComponent(manifest, graph, weights)

    def shared(self) -> "HeldModels":
        """An object that keeps every model that is loaded while it exists."""
        return self._shelf.held()
