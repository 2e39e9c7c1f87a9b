"""The engines of one autoencoder: opened when first needed, shared between threads, released and opened again."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache, partial

from ..bundle.graph import Graph
from ..bundle.manifest import Manifest
from ..bundle.verified_files import BundleFiles, Verify
from ..calls.cancel_token import CancelToken, check_token
from ..errors import InputError, LatentRTError
from .backend import Backend
from .component import CallScope, Component
from .nonfinite_retry import RetriesInFloat32, wider_graph

__all__ = ["Sessions"]

_POLL_SECONDS = 0.05


class _ThreadSettings(threading.local):
    """What `fitting` set in this thread."""

    specialise: bool | None = None


class Sessions:
    """At most `contexts` engine calls compute at a time, and further ones wait. (A backend that copies during the
    computation of another call has `calls_in_flight` of them for each.)

    Raises:
        InputError: `contexts` is not a whole number of at least 1.
    """

    def __init__(self, manifest: Manifest, backend: Backend, contexts: int, verify: Verify = "once") -> None:
        if isinstance(contexts, bool) or not isinstance(contexts, int) or contexts < 1:
            raise InputError(f"contexts must be a whole number of at least 1, got {contexts!r}")
        self.manifest = manifest
        self._files = BundleFiles(manifest, verify)
        self.backend = backend
        self._free = threading.Semaphore(contexts * backend.capabilities.calls_in_flight)
        self._lock = threading.RLock()  # a stream that is thrown away ends anywhere, within the lock too
        self._loading = threading.Lock()
        self._open: dict[tuple[str, bool], Component] = {}
        self._calls: set[CallScope] = set()
        self._fitting = _ThreadSettings()
        self._closed = False

    @contextmanager
    def call(
        self, specialise: bool | None = None, peak_estimate_bytes: int = 0, token: CancelToken | None = None
    ) -> Iterator[CallScope]:
        """One user call, from its start to its end, which `cancel` and `token` stop. `specialise` and
        `peak_estimate_bytes` are those of `CallScope`; if `specialise` is None, it is as `fitting` set it.

        Raises:
            Cancelled: `cancel` was called meanwhile, or the token was cancelled. LatentRTError: the autoencoder was
                closed. InputError: `token` is no token.
        """
        check_token(token)
        call = CallScope(
            specialise=self._fitting.specialise if specialise is None else specialise,
            peak_estimate_bytes=peak_estimate_bytes,
        )
        with self._lock:
            self._require_open()
            self._calls.add(call)
        try:
            with nullcontext() if token is None else token.reaching(call):
                call.check()
                yield call
                call.check()
        finally:
            with self._lock:
                self._calls.discard(call)

    @contextmanager
    def fitting(self, specialise: bool | None = True) -> Iterator[None]:
        """Within it the calls of this thread have this `CallScope.specialise`, if they do not give another."""
        before = self._fitting.specialise
        self._fitting.specialise = specialise
        try:
            yield
        finally:
            self._fitting.specialise = before

    @contextmanager
    def turn(self, call: CallScope) -> Iterator[None]:
        """Wait for a free context and hold it for one engine call: between its tiles a user call lets others in.

        Raises:
            Cancelled: the call was cancelled while this waited. LatentRTError: the autoencoder was closed meanwhile.
        """
        while not self._free.acquire(timeout=_POLL_SECONDS):
            call.check()
        try:
            call.check()
            with self._lock:
                self._require_open()
            yield
        finally:
            self._free.release()

    def component(self, graph: Graph, *, wider: bool = False) -> Component:
        """The open engine of a graph; the first use checks the graph and its weights, and loads them. `wider`: in
        float32, where the backend lowers the graph itself.

        Raises:
            BundleError: the graph or its weights were altered, or changed after the bundle was opened.
        """
        with self._loading:  # a lock of its own: cancel and release do not wait for a load
            with self._lock:
                self._require_open()
                if (graph.file, wider) in self._open:
                    return self._open[graph.file, wider]
            component = self.open_once(graph, wider=wider)
            with self._lock:
                self._require_open()
                self._open[graph.file, wider] = component
            return component

    def open_once(self, graph: Graph, *, wider: bool = False) -> Component:
        """A new engine of a graph, freed with its last reference: for graphs that run in a few calls one after the
        other, and whose memory the next graph needs.

        Raises:
            BundleError: as in `component`.
        """
        file = graph.cpu_file if self.backend.capabilities.cpu_graphs and graph.cpu_file is not None else graph.file
        self._files.check_graph(file)
        self.manifest.check_graph(graph, file)  # before a library sees it
        dtype = self.backend.dtype if self.backend.lowers_graphs and not wider else graph.dtype
        with self._files.checking(file, graph.weights):
            component = self.backend.open(graph, self.manifest.path_of(file), dtype=dtype)
        return component if wider else self._watched(graph, component)

    def _watched(self, graph: Graph, component: Component) -> Component:
        if graph.dtype == "float32" and self.backend.lowers_graphs:
            return RetriesInFloat32(
                component, graph.file, self.backend.dtype, partial(self.component, graph, wider=True)
            )
        if graph.dtype == "float32":
            return component
        other = wider_graph(self.manifest, graph)
        # The engine of a strip's step is freed after the step, and so is the engine of its float32 graph.
        open_wider = self.component if graph.strip_stage is None else cache(self.open_once)
        return RetriesInFloat32(
            component,
            graph.file,
            graph.dtype,
            None if other is None else partial(open_wider, other),
            streams=graph.stage is not None,
        )

    def cancel(self) -> None:
        """Stop every call that runs or waits now."""
        with self._lock:
            calls = tuple(self._calls)
        for call in calls:
            call.cancel()

    def release(self) -> None:
        """Free every engine, once the GPU has finished the work of earlier calls. Running calls finish with their
        engines, and the next call loads them again."""
        with self._lock:
            released, self._open = self._open, {}
        released.clear()  # outside of the lock: it may wait for the GPU, and `cancel` does not

    def close(self) -> None:
        """Release, and refuse further calls."""
        self.release()
        with self._lock:
            self._closed = True

    def _require_open(self) -> None:
        if self._closed:
            raise LatentRTError("the autoencoder was closed: open the bundle again")
