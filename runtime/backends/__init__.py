"""Which backend runs a graph, and why: the fallback policy in one function."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..component import Component
from ..errors import BackendUnavailable, InputError, MissingExtra
from ..manifest import Graph, Manifest

__all__ = ["BACKENDS", "Backend", "backends_here", "choose_backend", "graphs_of"]

BACKENDS = ("auto", "onnxruntime", "tensorrt", "tensorrt-rtx")
_DTYPES = ("float32", "float16", "bfloat16")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backend:
    """A choice that can run here, on `device` ("cpu" or "cuda"): `open` loads what runs one graph file of the bundle.
    `provider` is ONNX Runtime's, and "" for other backends."""

    name: str
    provider: str
    device: str
    open: Callable[[Path], Component]

    @property
    def label(self) -> str:
        return f"{self.name}:{self.provider}" if self.provider else self.name


def choose_backend(
    manifest: Manifest,
    *,
    backend: str = "auto",
    dtype: str = "float32",
    provider: str | None = None,
    threads: int | None = None,
    session_options: Mapping[str, Any] | None = None,
) -> Backend:
    """The backend for a bundle. `auto` takes the fastest that can run and logs why it skipped the others; one that
    is named is taken or refused, never replaced.

    Raises:
        BackendUnavailable: what was asked for cannot run here (MissingExtra: ONNX Runtime is not installed).
        InputError: an unknown name, or a precision that the bundle does not hold.
    """
    from .onnxruntime import PROVIDERS, OnnxRuntimeComponent, missing_provider
    from .tensorrt import LIBRARIES

    if backend not in BACKENDS:
        raise BackendUnavailable(f"backend must be one of {', '.join(BACKENDS)} in this version, got {backend!r}")
    if dtype not in _DTYPES:
        raise InputError(f"dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")
    if provider is not None and provider not in PROVIDERS:
        raise InputError(f"provider must be one of {', '.join(PROVIDERS)}, got {provider!r}")
    if provider is not None and backend in LIBRARIES:
        raise InputError(f"provider is ONNX Runtime's: backend {backend!r} takes none, got {provider!r}")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise InputError(f"threads must be a whole number of at least 1, or None for all cores, got {threads!r}")
    graphs_of(manifest, dtype)

    def opened(name: str) -> Backend:
        def open_graph(path: Path) -> Component:
            return OnnxRuntimeComponent(path, provider=name, threads=threads, session_options=session_options)

        return Backend("onnxruntime", name, "cpu" if name == "cpu" else "cuda", open_graph)

    def missing(name: str) -> str | None:
        if name == "cpu" and dtype == "bfloat16":
            return "ONNX Runtime has no bfloat16 convolution for the CPU"
        return missing_provider(name)

    if backend in LIBRARIES:
        found = _with_engines(manifest, backend, dtype)
        if isinstance(found, str):
            raise BackendUnavailable(f"backend {backend} cannot run: {found}")
        return found
    if provider is not None:
        reason = missing(provider)
        if reason is not None:
            raise BackendUnavailable(f"backend onnxruntime with provider {provider!r} cannot run: {reason}")
        return opened(provider)
    skipped: list[str] = []
    for library in LIBRARIES if backend == "auto" else ():
        found = _with_engines(manifest, library, dtype)
        if not isinstance(found, str):
            return _told(found, skipped)
        skipped.append(f"{library} ({found})")
    missing_provider("cpu")  # without ONNX Runtime, this tells the simplest way to get it
    for name in ("cuda", "cpu"):
        reason = missing(name)
        if reason is None:
            return _told(opened(name), skipped)
        skipped.append(f"onnxruntime:{name} ({reason})")
    raise BackendUnavailable(f"no backend can run: {'; '.join(skipped)}")


def _told(backend: Backend, skipped: list[str]) -> Backend:
    _log.info("backend %s%s", backend.label, "".join(f"; skipped {item}" for item in skipped))
    return backend


def _with_engines(manifest: Manifest, backend: str, dtype: str) -> Backend | str:
    """TensorRT for a bundle, or why not: the library, the driver, the GPU, or an engine that fits it."""
    from .tensorrt import EngineOpener, missing_library

    reason = missing_library(backend)
    if reason is not None:
        return reason
    try:
        opener = EngineOpener(manifest, backend)
    except BackendUnavailable as error:
        return str(error)
    return opener.unusable(dtype) or Backend(backend, "", "cuda", opener.open)


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


def backends_here() -> list[tuple[str, str | None]]:
    """Every backend and provider with the reason why it cannot run here, or None. (What a bundle lacks beside that,
    an engine for this GPU, is said when it is opened.)"""
    from .onnxruntime import PROVIDERS, missing_provider
    from .tensorrt import LIBRARIES, missing_library

    rows: list[tuple[str, str | None]] = []
    for provider in PROVIDERS:
        try:
            rows.append((f"onnxruntime:{provider}", missing_provider(provider)))
        except MissingExtra as error:
            rows.append((f"onnxruntime:{provider}", str(error)))
    return rows + [(library, missing_library(library)) for library in LIBRARIES]
