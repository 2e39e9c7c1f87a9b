"""What can run a bundle here in one precision, and in which order `auto` looks."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..bundle.engine_records import EngineRecord
from ..bundle.graph import Graph
from ..bundle.manifest import Manifest
from ..bundle.profiles import Profile
from ..errors import BackendUnavailable, InputError, MissingExtra
from ..system.cache_folder import cache_folder
from .component import Component
from .onnxruntime.component import OnnxRuntimeComponent, missing_provider, shared_arena
from .openvino.component import OpenVinoComponent, missing_openvino
from .tensorrt.opener import LIBRARIES, EngineOpener, missing_library
from .tensorrt.options import DeviceOptions

__all__ = ["Backend", "Choices", "graphs_of"]

_log = logging.getLogger(__name__)
# A compiled model is a copy of the weights: of LTX-2's decoder it takes 4 s to write, for a second of each later start.
_MOST_CACHED_BYTES = 512 << 20
_NO_ENGINES = (
    "engines are compiled code, and they are not loaded with engines=False, nor with digest= alone, which does not "
    "cover them: take another backend, or pass engines=True if you trust the people who built them"
)
_IN_FLIGHT = 2  # TensorRT: one call's copies beside the other's computation


@dataclass(frozen=True)
class Backend:
    """A choice that can run here in the precision `dtype`, on `device` ("cpu" or "cuda"): `open` loads what runs one
    graph file of the bundle. `provider` is ONNX Runtime's, and "" for other backends.

    `graphs` is the precision of the bundle's graphs that it takes. Where that is float32 and `dtype` is lower, the
    backend lowers them itself, and `open_wider` loads the same file in float32.

    `in_flight`: how many calls it wants at a time, so that copies run beside the computation. `takes_stream`: whether
    its components order a call in a CUDA stream of the caller's. `profiles`: the sizes that what runs a graph was built
    for; None: it runs any. `shared`: what its components have in common, to be kept where they are let go one by one.
    `takes_cpu_files`: whether it runs a graph's `cpu_file`, where the bundle has one. `engines`: the records of what
    was built for a graph, by which calls are planned for the device's memory, and `free_bytes`, what of that is free;
    None: calls are planned by measuring.
    """

    name: str
    provider: str
    device: str
    open: Callable[[Path], Component]
    dtype: str = "float32"
    graphs: str = "float32"
    open_wider: Callable[[Path], Component] | None = None
    in_flight: int = 1
    takes_stream: bool = False
    profiles: Callable[[Graph], tuple[Profile, ...]] | None = None
    shared: Callable[[], object] = lambda: None
    takes_cpu_files: bool = False
    engines: Callable[[Graph], tuple[EngineRecord, ...]] | None = None
    free_bytes: Callable[[], int] | None = None

    @property
    def label(self) -> str:
        return f"{self.name}:{self.provider}" if self.provider else self.name


_Choice = tuple[str, Callable[[], Backend | str]]


class Choices:
    """The backends of a bundle for one precision. The other arguments: see `choose_backend`."""

    def __init__(
        self,
        manifest: Manifest,
        dtype: str,
        threads: int | None,
        session_options: Mapping[str, Any] | None,
        contexts: int = 1,
        *,
        allow_build: bool = True,
        engines: bool = True,
    ) -> None:
        self._manifest, self._dtype, self._contexts = manifest, dtype, contexts
        self._allow_build, self._may_load_engines = allow_build, engines
        self._threads, self._session_options = threads, session_options
        self._held = any(graph.dtype == dtype for graph in manifest.graphs)

    def named(self, backend: str, provider: str | None) -> Backend:
        """One that was asked for by name, taken or refused.

        Raises:
            BackendUnavailable, MissingExtra: it cannot run here. InputError: the bundle lacks the precision.
        """
        if backend == "openvino":
            return _usable(backend, self._openvino())
        graphs_of(self._manifest, self._dtype)
        if backend in LIBRARIES:
            return _usable(backend, self._engines(backend, every=False))
        if provider is not None:
            return _usable(f"onnxruntime with provider {provider!r}", self._onnxruntime(provider))
        return self._first(self._onnxruntimes())

    def fastest(self) -> Backend:
        """The first that can run, in the order of their speed.

        On a CPU in float32 OpenVINO is the faster one for video models (ONNX Runtime takes 1.3 to 2.3 times as long);
        for image models they are about equal, and ONNX Runtime needs less memory (benchmarks/backends.md). OpenVINO
        alone runs bfloat16 there.

        Raises:
            BackendUnavailable, MissingExtra: none can. InputError: the bundle lacks the precision.
        """
        cuda, cpu = self._onnxruntimes()
        openvino: _Choice = ("openvino", self._openvino)
        engines: list[_Choice] = [(library, partial(self._engines, library)) for library in LIBRARIES]
        return self._first([*engines, cuda, *((openvino, cpu) if self._manifest.config.video else (cpu, openvino))])

    def others(self, chosen: Backend) -> tuple[Backend, ...]:
        """Further backends that run the same graphs in the same precision on the same CPU as the `chosen` one, in the
        order of their speed: where its strategies do not fit, theirs may. None for a GPU, whose memory is another."""
        if chosen.device != "cpu":
            return ()
        found = []
        for choose in (self._openvino, partial(self._onnxruntime, "cpu")):
            with suppress(MissingExtra):
                other = choose()
                alike = isinstance(other, Backend) and (other.graphs, other.dtype) == (chosen.graphs, chosen.dtype)
                if isinstance(other, Backend) and alike and other.label != chosen.label:
                    found.append(other)
        return tuple(found)

    def _first(self, choices: Iterable[_Choice]) -> Backend:
        skipped: list[str] = []
        for label, choose in choices:
            try:
                found = choose()
            except MissingExtra as error:
                found = str(error)
            if isinstance(found, Backend):
                _log.info("backend %s%s", found.label, "".join(f"; skipped {item}" for item in skipped))
                return found
            skipped.append(f"{label} ({found})")
        graphs_of(self._manifest, self._dtype)
        missing_provider("cpu")  # without ONNX Runtime, this tells the simplest way to get it
        raise BackendUnavailable(f"no backend can run: {'; '.join(skipped)}")

    def _onnxruntimes(self) -> list[_Choice]:
        return [(f"onnxruntime:{name}", partial(self._onnxruntime, name)) for name in ("cuda", "cpu")]

    def _onnxruntime(self, provider: str) -> Backend | str:
        if not self._held:
            return f"the bundle holds no {self._dtype} graphs"
        if provider == "cpu" and self._dtype == "bfloat16":
            return "ONNX Runtime has no bfloat16 convolution for the CPU"
        reason = missing_provider(provider) or self._builds_in_calls(provider)
        if reason is not None:
            return reason

        def open_graph(path: Path) -> Component:
            return OnnxRuntimeComponent(
                path,
                provider=provider,
                threads=self._threads,
                session_options=self._session_options,
                cache=_provider_cache(self._hash_of(path))
                if provider == "tensorrt" and self._may_load_engines
                else None,
            )

        device = "cpu" if provider == "cpu" else "cuda"
        return Backend(
            "onnxruntime",
            provider,
            device,
            open_graph,
            self._dtype,
            self._dtype,
            shared=partial(shared_arena, provider),
            takes_cpu_files=device == "cpu",
        )

    def _openvino(self) -> Backend | str:
        if self._session_options is not None:
            return "session_options are ONNX Runtime's"
        reason = missing_openvino(self._dtype)
        if reason is not None:
            return reason
        if not any(graph.dtype == "float32" for graph in self._manifest.graphs):
            return "it runs the bundle's float32 graphs, and this one holds none: export with --dtype float32 beside it"

        def opened(dtype: str, path: Path) -> Component:
            names = {self._graph_at(path).file, self._graph_at(path).weights}
            files = {self._manifest.path_of(f.name): f.sha256 for f in self._manifest.files if f.name in names}
            return OpenVinoComponent(path, dtype=dtype, threads=self._threads, key=self._content(path), files=files)

        wider = None if self._dtype == "float32" else partial(opened, "float32")
        return Backend("openvino", "", "cpu", partial(opened, self._dtype), self._dtype, "float32", wider)

    def _builds_in_calls(self, provider: str) -> str | None:
        """Why ONNX Runtime's TensorRT, which makes engines of its own while it runs, is not to be taken, or None."""
        if provider != "tensorrt":
            return None
        if not self._allow_build:
            return "it builds engines within calls, and allow_build=False forbids that: take backend='tensorrt'"
        if self._dtype == "float32" and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0":
            return (
                "it computes float32 with TF32's 10 bits of mantissa unless the environment has NVIDIA_TF32_OVERRIDE=0 "
                "when the process starts: set that, or take backend='tensorrt'"
            )
        return None

    def _content(self, path: Path) -> str:
        """A name for what a graph file and its weights hold; "" where the weights are too large to be kept again."""
        files = {file.name: file for file in self._manifest.files}
        large = files[self._graph_at(path).weights].size_bytes > _MOST_CACHED_BYTES
        return "" if large else self._hash_of(path)

    def _hash_of(self, path: Path) -> str:
        """A name for what a graph file and its weights hold."""
        files, graph = {file.name: file for file in self._manifest.files}, self._graph_at(path)
        return sha256((files[graph.file].sha256 + files[graph.weights].sha256).encode()).hexdigest()[:32]

    def _graph_at(self, path: Path) -> Graph:
        return next(graph for graph in self._manifest.every_graph if self._manifest.path_of(graph.file) == path)

    def _engines(self, backend: str, *, every: bool = True) -> Backend | str:
        """TensorRT, or why not: the library, the driver, the GPU, or an engine that fits it (`every`: of each
        component)."""
        if not self._held:
            return f"the bundle holds no {self._dtype} graphs"
        if not self._may_load_engines:
            return _NO_ENGINES
        try:
            options = DeviceOptions.of(self._session_options)
        except InputError as error:
            return missing_library(backend) or str(error)
        reason = missing_library(backend, options.device)
        if reason is not None:
            return reason
        try:
            opener = EngineOpener(self._manifest, backend, self._contexts, options, may_compile=self._allow_build)
        except BackendUnavailable as error:
            return str(error)
        return opener.unusable(self._dtype, every=every) or Backend(
            backend,
            "",
            "cuda",
            opener.open,
            dtype=self._dtype,
            graphs=self._dtype,
            in_flight=_IN_FLIGHT,
            takes_stream=True,
            profiles=opener.profiles,
            shared=opener.shared,
            engines=opener.engines,
            free_bytes=opener.free_bytes,
        )


def _provider_cache(content: str) -> Path | None:
    """Where ONNX Runtime's TensorRT keeps engines of that content: it tells them apart by the graph alone."""
    try:
        return cache_folder(f"onnxruntime-tensorrt/{content}")
    except OSError as error:
        _log.warning("ONNX Runtime builds its TensorRT engines anew each time: %s", error)
        return None


def _usable(what: str, found: Backend | str) -> Backend:
    if isinstance(found, str):
        raise BackendUnavailable(f"backend {what} cannot run: {found}")
    return found


def graphs_of(manifest: Manifest, dtype: str) -> tuple[Graph, ...]:
    """The bundle's graphs of one precision.

    Raises:
        InputError: it holds none.
    """
    graphs = tuple(graph for graph in manifest.graphs if graph.dtype == dtype)
    if not graphs:
        held = list(dict.fromkeys(graph.dtype for graph in manifest.graphs))
        raise InputError(
            f"{manifest.folder} holds no {dtype} graphs (it holds {', '.join(held)}): "
            f"open it with dtype={' or '.join(map(repr, held))}, or export with --dtype {dtype}"
        )
    return graphs
