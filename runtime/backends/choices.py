"""Which of the backends can run a bundle here in one precision, and in which order `auto` looks at them."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from ...tiling.argument_names import argument
from ..bundle.graph import Graph
from ..bundle.manifest import Manifest
from ..errors import BackendUnavailable, InputError, MissingExtra
from .backend import Backend, BackendRequest

__all__ = ["ENGINE_BACKENDS", "ENGINE_PACKAGES", "Choices", "JudgedBackend", "graphs_of"]

ENGINE_BACKENDS = ("tensorrt", "tensorrt-rtx")
"""The names of the backends that run engines of the bundle, in the order in which `auto` looks at them."""
ENGINE_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "openvino")
"""The distributions whose versions decide what calls on a CPU take."""
_log = logging.getLogger(__name__)
_Choice = tuple[str, Callable[[], Backend | str]]


@dataclass(frozen=True)
class JudgedBackend:
    """A backend that was looked at for a bundle and a precision.

    Attributes:
        label: the backend and its provider, such as "onnxruntime:cpu".
        backend: the backend, if it can run the bundle here.
        reason: why it cannot, otherwise.
    """

    label: str
    backend: Backend | None
    reason: str | None = None


# Each backend is imported by the method that looks at it: a bundle on one backend does not pay for the others.


class Choices:
    """The backends for what the user asked for."""

    def __init__(self, request: BackendRequest) -> None:
        self._request = request

    def named(self, backend: str, provider: str | None) -> Backend:
        """The backend of that name: taken or refused.

        Raises:
            BackendUnavailable, MissingExtra: it cannot run here. InputError: the bundle lacks the precision.
        """
        if backend == "openvino":
            return _usable(backend, self._openvino())
        graphs_of(self._request.manifest, self._request.dtype)
        if backend in ENGINE_BACKENDS:
            return _usable(backend, self._engines(backend, every=False))
        if provider is not None:
            return _usable(f"onnxruntime with provider {provider!r}", self._onnxruntime(provider))
        return self._first(self._onnxruntimes())

    def fastest(self) -> Backend:
        """The first that can run, in the order of their speed.

        On a CPU in float32 OpenVINO is faster for video models (ONNX Runtime takes 1.3 to 2.3 times as long). For image
        models they are about equal, and ONNX Runtime needs less memory (benchmarks/backends.md). Only OpenVINO runs
        bfloat16 there.

        Raises:
            BackendUnavailable, MissingExtra: none can. InputError: the bundle lacks the precision.
        """
        return self._first(self._by_speed())

    def judged(self) -> Iterator[JudgedBackend]:
        """Every backend that `fastest` looks at, in its order. `fastest` takes the first that can run."""
        return _judged(self._by_speed())

    def judged_provider(self, provider: str) -> JudgedBackend:
        """ONNX Runtime with a provider."""
        return next(_judged([(f"onnxruntime:{provider}", partial(self._onnxruntime, provider))]))

    def others(self, chosen: Backend) -> tuple[Backend, ...]:
        """Further backends that run the same graphs in the same precision on the same CPU as the `chosen` one, in the
        order of their speed. Their strategies may fit where those of the chosen one do not. There are none for a GPU,
        whose memory is another."""
        if chosen.device != "cpu":
            return ()
        found = []
        for choose in (self._openvino, partial(self._onnxruntime, "cpu")):
            with suppress(MissingExtra):
                other = choose()
                if isinstance(other, Backend) and _is_alike(other, chosen) and other.label != chosen.label:
                    found.append(other)
        return tuple(found)

    def _first(self, choices: Iterable[_Choice]) -> Backend:
        skipped: list[str] = []
        for one in _judged(choices):
            if one.backend is not None:
                _log.info("backend %s%s", one.backend.label, "".join(f"; skipped {item}" for item in skipped))
                return one.backend
            skipped.append(f"{one.label} ({one.reason})")
        graphs_of(self._request.manifest, self._request.dtype)
        from .onnxruntime.component import missing_provider

        missing_provider("cpu")  # without ONNX Runtime, its error names the simplest way to get it
        raise BackendUnavailable(f"no backend can run: {'; '.join(skipped)}")

    def _by_speed(self) -> list[_Choice]:
        """The backends in the order of their speed, for `fastest`."""
        cuda, cpu = self._onnxruntimes()
        openvino: _Choice = ("openvino", self._openvino)
        video = self._request.manifest.config.video
        engines: list[_Choice] = [(library, partial(self._engines, library)) for library in ENGINE_BACKENDS]
        return [*engines, cuda, *((openvino, cpu) if video else (cpu, openvino))]

    def _onnxruntimes(self) -> list[_Choice]:
        return [(f"onnxruntime:{name}", partial(self._onnxruntime, name)) for name in ("cuda", "cpu")]

    def _onnxruntime(self, provider: str) -> Backend | str:
        from .onnxruntime.backend import find_onnxruntime

        return find_onnxruntime(self._request, provider)

    def _openvino(self) -> Backend | str:
        from .openvino.backend import find_openvino

        return find_openvino(self._request)

    def _engines(self, library: str, *, every: bool = True) -> Backend | str:
        from .tensorrt.backend import find_tensorrt

        return find_tensorrt(self._request, library, every=every)


def _judged(choices: Iterable[_Choice]) -> Iterator[JudgedBackend]:
    for label, choose in choices:
        try:
            found = choose()
        except MissingExtra as error:
            found = str(error)
        yield JudgedBackend(label, None, found) if isinstance(found, str) else JudgedBackend(label, found)


def _is_alike(one: Backend, other: Backend) -> bool:
    return (one.graph_dtype, one.dtype) == (other.graph_dtype, other.dtype)


def _usable(name: str, found: Backend | str) -> Backend:
    if isinstance(found, str):
        raise BackendUnavailable(f"backend {name} cannot run: {found}")
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
            f"open it with {' or '.join(argument('dtype', one) for one in held)}, or export with --dtype {dtype}"
        )
    return graphs
