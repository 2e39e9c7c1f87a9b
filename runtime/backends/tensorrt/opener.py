"""The engines of a bundle: which of them TensorRT or TensorRT-RTX can run here, and how they are opened."""

import importlib.util
import re
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...bundle.engine_records import EngineRecord, build_command
from ...bundle.graph import Graph
from ...bundle.manifest import Manifest
from ...bundle.profiles import Profile
from ...errors import BackendUnavailable, EngineError
from ...extras import require
from ...system.file_identity import FileIdentity
from ...system.forked_process import observe_forks
from ..component import Component
from ..cuda.device_memory import MemoryLedger
from ..cuda.devices import compute_capability, has_nvidia_driver
from ..names import LIBRARIES
from .options import TensorRtOptions

if TYPE_CHECKING:
    from .shared_device import SharedDevice

__all__ = ["EngineOpener", "find_engines", "missing_library", "unusable_engines"]


def missing_library(backend: str, device: int = 0) -> str | None:
    """Why the library cannot run any bundle on this machine's GPU `device`: the package, the driver or the GPU is
    missing. None if it can."""
    for module in (LIBRARIES[backend], "cuda.core", "cuda.bindings"):
        if not _is_installed(module):
            return f'{module} is not installed: run `pip install "latentrt[{backend}]"`'
    if not has_nvidia_driver():
        return "no NVIDIA driver answers on this machine"
    try:
        return unknown_gpu(backend, require(LIBRARIES[backend], extra=backend), compute_capability(device))
    except BackendUnavailable as error:
        return str(error)


def unknown_gpu(backend: str, library: Any, capability: str) -> str | None:
    """Why a library has no kernels for GPUs of a compute capability. None if it has. (TensorRT-RTX lists its own.)"""
    known = getattr(library, "ComputeCapability", None)
    names = [] if known is None else [name for name in dir(known) if re.fullmatch(r"SM\d+", name)]
    if not names or f"SM{capability.replace('.', '')}" in names:
        return None
    listed = ", ".join(f"{name[2:-1]}.{name[-1]}" for name in sorted(names, key=lambda name: int(name[2:])))
    return (
        f"{backend} {library.__version__} has kernels for compute capability {listed}, and this GPU has {capability}: "
        f"take tensorrt"
    )


def find_engines(
    manifest: Manifest, graph: Graph, backend: str, *, library_version: str, capability: str
) -> tuple[EngineRecord, ...]:
    """The engines of a graph that this library and this GPU can run, the newest first.

    Raises:
        EngineError: there is none. The message says what is there and what to run.
    """
    hashes = {file.name: file.sha256 for file in manifest.files}
    found, reasons = [], []
    for record in reversed(manifest.engines):
        if (record.graph, record.backend) != (graph.file, backend):
            continue
        try:
            record.check_origin(hashes[graph.file], hashes[graph.weights])
            record.check_machine(library_version, capability)
        except EngineError as error:
            reasons.append(str(error))
        else:
            found.append(record)
    if not found:
        raise EngineError(
            reasons[0]
            if reasons
            else f"the bundle holds no {backend} engine of {graph.file}: run "
            f"`{build_command(manifest.folder, backend, graph.dtype, graph.kind)}`"
        )
    return tuple(found)


def unusable_engines(
    manifest: Manifest, backend: str, dtype: str, *, every: bool = True, library_version: str, capability: str
) -> str | None:
    """Why the bundle's engines of a precision cannot stand in for its graphs here, or None.

    With `every`, each component needs an engine of its first graph (that of the config's own causality). Otherwise one
    engine of any graph is enough, and a call that needs another says so."""
    own = ([one for one in manifest.find_graphs(name) if one.dtype == dtype] for name in manifest.components)
    graphs = [found[0] for found in own if found]
    if not every:
        graphs += [graph for graph in manifest.every_graph if graph.dtype == dtype and graph not in graphs]
    reasons = []
    for graph in graphs:
        try:
            find_engines(manifest, graph, backend, library_version=library_version, capability=capability)
        except EngineError as error:
            reasons.append(str(error))
    return reasons[0] if reasons and (every or len(reasons) == len(graphs)) else None


class EngineOpener:
    """Opens the engines of one autoencoder on this machine's GPU. They share the GPU, its workspaces and the library.

    Args:
        manifest: the bundle.
        backend: "tensorrt" or "tensorrt-rtx".
        contexts: how many calls may compute at a time.
        options: the GPU and its memory.
        may_compile: whether a call may compile kernels for a size that was not warmed up.

    Raises:
        BackendUnavailable: the library or the GPU is missing.
    """

    def __init__(
        self,
        manifest: Manifest,
        backend: str,
        contexts: int = 1,
        options: TensorRtOptions | None = None,
        *,
        may_compile: bool = True,
    ) -> None:
        self._manifest, self._may_compile = manifest, may_compile
        self._contexts = contexts
        self._options = options or TensorRtOptions()
        # Not part of the shared device: results that were handed out are counted beyond a release.
        self._ledger = MemoryLedger(self._options.device_memory_bytes)
        self._backend = backend
        self._library = require(LIBRARIES[backend], extra=backend)
        self._capability = compute_capability(self._options.device)
        # Weak: the workspaces are freed with the last engine, and the next engine makes its own.
        self._shared: Callable[[], SharedDevice | None] = lambda: None
        self._lock = threading.Lock()
        self._checked: set[tuple[str, FileIdentity]] = set()
        self._inherited = False
        observe_forks(self)

    def unusable(self, dtype: str, *, every: bool = True) -> str | None:
        """As `unusable_engines`."""
        return unknown_gpu(self._backend, self._library, self._capability) or unusable_engines(
            self._manifest, self._backend, dtype, every=every, **self._machine
        )

    def open(self, graph_file: Path) -> Component:
        """The engine of a graph file of the bundle. If there are several, each is loaded when a call needs it.

        Raises:
            EngineError: none fits, or the file is damaged, or the library does not read it.
        """
        from .component import TensorRTComponent
        from .engines_by_size import EnginesBySize

        manifest = self._manifest
        graph = next(one for one in manifest.every_graph if one.file == graph_file.name)
        records = _without_replaced(find_engines(manifest, graph, self._backend, **self._machine))
        shared = self.shared()

        def load(record: EngineRecord) -> TensorRTComponent:
            self._check(record)
            return TensorRTComponent(manifest.folder, record, graph, manifest.config.spatial_ratio, shared)

        return load(records[0]) if len(records) == 1 else EnginesBySize(records, load)

    def shared(self) -> "SharedDevice":
        """The device that the engines share, made now if there is none. A caller that opens and frees engines one by
        one holds it meanwhile.

        Raises:
            BackendUnavailable: this process was forked after the bundle was opened.
        """
        if self._inherited:
            raise BackendUnavailable(
                f"this process was forked after {self._manifest.folder} was opened for a GPU, which does not answer in "
                f"a forked process: open the bundle in a process that multiprocessing starts with 'spawn'"
            )
        from .shared_device import SharedDevice

        with self._lock:
            shared = self._shared()
            if shared is None:
                shared = SharedDevice(
                    self._library, self._options, self._ledger, self._contexts, may_compile=self._may_compile
                )
                self._shared = weakref.ref(shared)
            return shared

    def profiles(self, graph: Graph) -> tuple[Profile, ...]:
        """The sizes that the engines of a graph were built for, those of the newest engine first.

        Raises:
            EngineError: no engine fits.
        """
        return tuple(profile for record in self.engines(graph) for profile in record.profiles)

    def engines(self, graph: Graph) -> tuple[EngineRecord, ...]:
        """The records of the engines of a graph that run here, the newest first.

        Raises:
            EngineError: there is none.
        """
        return find_engines(self._manifest, graph, self._backend, **self._machine)

    def free_bytes(self) -> int:
        """The GPU memory that may still be taken, in bytes."""
        return self.shared().gpu.available

    def after_fork(self) -> None:
        """Use the GPU no more."""
        self._inherited, self._lock = True, threading.Lock()

    def _check(self, record: EngineRecord) -> None:
        """Refuse an altered engine file before the library sees it. A file that was checked and has not been written
        since is not read again: a gigabyte takes longer to hash than to load."""
        path = self._manifest.folder / record.file
        if not path.is_file() or (record.key, FileIdentity.of(path)) not in self._checked:
            record.check_file(self._manifest.folder)
            self._checked.add((record.key, FileIdentity.of(path)))

    @property
    def _machine(self) -> Mapping[str, str]:
        return {"library_version": str(self._library.__version__), "capability": self._capability}


def _without_replaced(records: Sequence[EngineRecord]) -> tuple[EngineRecord, ...]:
    """The engines, the newest first, without engines of which newer ones have every profile: no call runs in them."""
    newer: list[Profile] = []
    kept = []
    for record in records:
        if any(profile not in newer for profile in record.profiles):
            kept.append(record)
        newer += record.profiles
    return tuple(kept)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # its parent package is not there
        return False
