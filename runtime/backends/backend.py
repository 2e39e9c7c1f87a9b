"""The seam: what the runtime needs of a backend, and what a backend is asked for."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...tiling.public_place import shown_in
from ..bundle.graph import Graph
from ..bundle.manifest import Manifest
from ..bundle.profiles import Profile
from .component import Component
from .memory_model import MemoryModel

__all__ = ["Backend", "BackendCapabilities", "BackendRequest"]


@shown_in("latentrt.runtime")
@dataclass(frozen=True)
class BackendCapabilities:
    """What a backend can do beyond opening graphs.

    Attributes:
        calls_in_flight: the number of calls that it wants at a time, so that the copies of one run during the
            computation of another.
        callers_stream: its components take `stream`, a CUDA stream of the caller's, and order a call in it.
        any_size: its components run inputs of any size. If False, they run the sizes of `Backend.profiles`.
        cpu_graphs: it runs the form of a graph that is faster on a CPU, if the bundle holds one (`Graph.cpu_file`).
    """

    calls_in_flight: int = 1
    callers_stream: bool = False
    any_size: bool = True
    cpu_graphs: bool = False


@shown_in("latentrt.runtime")
class Backend(ABC):
    """Runs the graphs of a bundle in one precision.

    `open_bundle(backend=...)` takes an object of a subclass of yours. A subclass gives `name` and `open`; all else has
    a default that fits a backend on the CPU in float32. Threads may share it.

    Attributes:
        name: the backend's name in reports and messages.
        device: the device that the engines run on: "cpu", "cuda", or another kind such as "mps". Arrays of the caller's
            may be on the host, and on a "cuda" device.
        dtype: the precision of the computation: "float32", "float16" or "bfloat16".
        graph_dtype: the precision of the bundle's graphs that `open` is given. If it is "float32" and `dtype` is lower,
            the backend lowers the graphs itself, and a result with NaN or infinity is computed again in float32.
        capabilities: see `BackendCapabilities`.
        memory: how calls take memory. None: calls are not planned, and `memory=` is refused.
    """

    name: str
    device: str = "cpu"
    dtype: str = "float32"
    graph_dtype: str = "float32"
    capabilities: BackendCapabilities = BackendCapabilities()
    memory: MemoryModel | None = None

    @property
    def label(self) -> str:
        """The name of the backend with its provider, such as "onnxruntime:cpu". No two backends share one."""
        return self.name

    @property
    def lowers_graphs(self) -> bool:
        """Whether it computes in a lower precision than that of the graphs it is given."""
        return self.dtype != self.graph_dtype

    def for_bundle(self, manifest: Manifest) -> "Backend":
        """The backend that runs this bundle. `open_bundle` asks for it once. A backend whose `graph_dtype` or `open`
        depends on the bundle gives an object of its own for each bundle. The default is the backend itself."""
        return self

    @abstractmethod
    def open(self, graph: Graph, file: Path, *, dtype: str) -> Component:
        """Load a graph.

        Args:
            graph: the graph's record in the manifest: its component, and its inputs and outputs with named axes.
            file: the ONNX file, whose hash was checked. Its weights are in the same folder.
            dtype: the precision to compute in: `self.dtype`, or "float32" for what is computed again in float32.

        Raises:
            EngineError: the graph does not load.
        """

    def profiles(self, graph: Graph) -> tuple[Profile, ...]:
        """The sizes that the engines of a graph were built for, if `capabilities.any_size` is False.

        Raises:
            EngineError: no engine fits.
        """
        return ()

    def kept_models(self, graph: Graph) -> Mapping[str, str]:
        """The compiled models of a graph that the backend keeps outside the bundle: SHA-256 by file name. A self-test
        is repeated if one of them has changed since."""
        return {}

    def shared(self) -> object:
        """An object that its components share, such as an arena. A caller that opens and frees components one by one
        holds it meanwhile, so that it is not freed in between."""
        return None


@dataclass(frozen=True)
class BackendRequest:
    """What the user asked of a backend: the options of `open_bundle`.

    Attributes:
        manifest: the bundle.
        dtype: the precision of the computation.
        threads: the most CPU threads of one engine call. None: one for each core that may be used.
        options: the typed options of one backend, a mapping of names, or None.
        contexts: how many calls may compute at a time.
        allow_build: whether a call may compile.
        engines: whether compiled engines may be loaded.
    """

    manifest: Manifest
    dtype: str = "float32"
    threads: int | None = None
    options: Any = None
    contexts: int = 1
    allow_build: bool = True
    engines: bool = True

    @property
    def holds_precision(self) -> bool:
        """Whether the bundle holds graphs of the precision."""
        return any(graph.dtype == self.dtype for graph in self.manifest.graphs)
