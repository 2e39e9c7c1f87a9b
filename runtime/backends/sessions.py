"""The engines of one autoencoder: opened when first needed, shared between threads, released and opened again."""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from functools import cache, partial
from typing import Any, NoReturn

from ..bundle.graph import Graph
from ..bundle.manifest import Manifest
from ..bundle.verified_files import BundleFiles, Verify
from ..calls.cancel_token import CancelToken
from ..calls.strategy import Strategy, Way
from ..errors import BackendUnavailable, InputError, LatentRTError
from ..system.forked_process import never_free, observe_forks
from .backend import Backend
from .component import CallScope, Component
from .nonfinite_retry import RetriesInFloat32, wider_graph

__all__ = ["EngineProof", "EngineSets", "Proven", "Sessions"]

_POLL_SECONDS = 0.05
_NO_STEPS = {
    "stream": "runs no streaming graphs: take onnxruntime",
    "exact": "runs no strips: open the bundle with backend='onnxruntime'",
}
"""What a backend whose components have no `step` cannot run, by `Graph.kind`."""


class Sessions:
    """At most `contexts` engine calls compute at a time, and further ones wait. (A backend that copies during the
    computation of another call has `calls_in_flight` of them for each.)

    Attributes:
        inherited: whether this process was forked when engines were in memory. They do not run in it.

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
        self._closed = self.inherited = False

    @property
    def loaded(self) -> tuple[str, ...]:
        """The files of the graphs whose engines are in memory."""
        with self._lock:
            return tuple(file for file, _ in self._open)

    @contextmanager
    def turn(self, call: CallScope) -> Iterator[None]:
        """Wait for a free context and hold it for one engine call: between its tiles a user call lets others in.

        Raises:
            Cancelled: the call was cancelled while this waited. LatentRTError: the autoencoder was closed meanwhile, or
                this process was forked meanwhile.
        """
        if self.inherited:
            raise _forked(self.manifest)
        while not self._free.acquire(timeout=_POLL_SECONDS):
            call.check()
        try:
            call.check()
            if self._closed:
                raise _closed()
            yield
        finally:
            self._free.release()

    def component(self, graph: Graph, *, wider: bool = False) -> Component:
        """The open engine of a graph; the first use checks the graph and its weights, and loads them. `wider`: in
        float32, where the backend lowers the graph itself.

        Raises:
            BundleError: the graph or its weights were altered, or changed after the bundle was opened. LatentRTError:
                the autoencoder was closed, or this process was forked meanwhile.
        """
        if self.inherited:
            raise _forked(self.manifest)
        with self._loading:  # a lock of its own: cancel and release do not wait for a load
            with self._lock:
                if self._closed:
                    raise _closed()
                if (graph.file, wider) in self._open:
                    return self._open[graph.file, wider]
            component = self.open_once(graph, wider=wider)
            with self._lock:
                if self._closed:
                    raise _closed()
                self._open[graph.file, wider] = component
            return component

    def open_once(self, graph: Graph, *, wider: bool = False) -> Component:
        """A new engine of a graph, freed with its last reference: for graphs that run in a few calls one after the
        other, and whose memory the next graph needs.

        Raises:
            BundleError: as in `component`. BackendUnavailable: the graph runs in steps, and the backend runs none.
        """
        file = graph.cpu_file if self.backend.capabilities.cpu_graphs and graph.cpu_file is not None else graph.file
        self._files.check_graph(file)
        self.manifest.check_graph(graph, file)  # before a library sees it
        dtype = self.backend.dtype if self.backend.lowers_graphs and not wider else graph.dtype
        path = self.manifest.engine_path(graph, file)
        with self._files.checking(file, graph.weights):
            component = self.backend.open(graph, path, dtype=dtype)
        if graph.kind in _NO_STEPS and not component.capabilities.steps:
            raise BackendUnavailable(f"backend {self.backend.label} {_NO_STEPS[graph.kind]}")
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

    def release(self) -> None:
        """Free every engine, once the GPU has finished the work of earlier calls. Running calls finish with their
        engines, and the next call loads them again."""
        with self._lock:
            released, self._open = self._open, {}
        released.clear()  # outside of the lock: it may wait for the GPU, and `cancel` does not

    def after_fork(self) -> None:
        """Give up what the parent process had in memory. A bundle that was opened and not used can be used."""
        loads = self._loading.locked()
        self.inherited = self.inherited or loads or bool(self._open) or self.backend.device != "cpu"
        never_free(self._open)
        self._open = {}
        self._lock, self._loading = threading.RLock(), threading.Lock()

    def close(self) -> None:
        """Release, and refuse further calls."""
        self.release()
        with self._lock:
            self._closed = True


Proven = tuple[Sessions, Way, str, bool | None]
"""Engines, the way in which they run, the component and its causality."""
EngineProof = Callable[[Sessions, Way, Graph, CallScope], None]
"""Called with the engines, the way, the component's graph or first stage, and the call, before each call runs. It
raises an exception to refuse the engines."""


class EngineSets:
    """All engines of one autoencoder, backend by backend: usually one backend, and another one if a memory budget asks
    for it. It also knows the calls that run or wait, so that they can be cancelled.

    Args:
        own: the engines of the backend that the bundle was opened with.
        others: gives the backends that planned strategies may name.
        open_other: makes the engines of one of these.

    Attributes:
        proof: the test that engines pass before they run a call, or None.
        proven: the engines that passed, each with the way, the component and its causality.
    """

    proof: EngineProof | None = None

    def __init__(
        self,
        own: Sessions,
        others: Callable[[], tuple[Backend, ...]],
        open_other: Callable[[Backend], Sessions],
    ) -> None:
        self.own = own
        self._backends, self._open = others, open_other
        self.proven: set[Proven] = set()
        self._others: dict[str, Sessions] = {}
        self._calls: set[CallScope] = set()
        self._lock = threading.RLock()  # a signal handler may cancel anywhere, within the lock too
        self._closed = False
        observe_forks(self)

    @property
    def calls(self) -> tuple[CallScope, ...]:
        """The user calls that run or wait now."""
        with self._lock:
            return tuple(self._calls)

    @contextmanager
    def call(self, token: CancelToken | None = None) -> Iterator[CallScope]:
        """One user call, from its planning to its result: what `cancel` and `token` reach.

        Raises:
            Cancelled: `cancel` was called meanwhile, or the token was cancelled. LatentRTError: the autoencoder was
                closed, or this process was forked after it was used.
        """
        if self.own.inherited:
            raise _forked(self.own.manifest)
        scope = CallScope()
        with self._lock:
            if self._closed:
                raise _closed()
            self._calls.add(scope)
        try:
            if token is not None:
                token.reach(scope)
            scope.check()
            yield scope
            scope.check()
        finally:
            with self._lock:
                self._calls.discard(scope)
            if token is not None:
                token.forget(scope)

    def each(self, pieces: Generator[Any, None, None]) -> Iterator[Any]:
        """The pieces of a call that gives its result piece by piece.

        Raises:
            LatentRTError: a piece is asked for in a process that was forked meanwhile.
        """
        with closing(pieces):
            while True:
                if self.own.inherited:
                    raise _forked(self.own.manifest)
                try:
                    yield next(pieces)  # not kept here, where it would take memory while the next one is made
                except StopIteration:
                    return

    def of(self, strategy: Strategy) -> Sessions:
        """The engines of the strategy's backend. If the call before had another backend, and this call has a memory
        budget, the engines of that backend are released first: a budget is for the memory of the whole process.

        Raises:
            LatentRTError: the autoencoder was closed.
        """
        found = self.own
        if strategy.backend is not None:
            with self._lock:
                found = self._others.get(strategy.backend) or self._open_of(strategy.backend)
                self._others[strategy.backend] = found
                if self._closed:
                    found.close()
        if strategy.budgeted:
            for sessions in self._every():
                if sessions is not found:
                    sessions.release()
        return found

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        with self._lock:
            return self._closed

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse pickling and copying.

        Raises:
            TypeError: always.
        """
        raise TypeError("open engines cannot be pickled or copied: open the bundle by its path in the other process")

    def cancel(self) -> None:
        """Stop every call that runs or waits now."""
        for scope in self.calls:
            scope.cancel()

    def release(self) -> None:
        """Let go of every engine."""
        for sessions in self._every():
            sessions.release()

    def close(self) -> None:
        """Release, and refuse further calls."""
        with self._lock:
            self._closed = True
        for sessions in self._every():
            sessions.close()

    def after_fork(self) -> None:
        """Give up the calls of the parent process. They do not go on in this process."""
        self._lock = threading.RLock()
        every = self.own, *self._others.values()
        for sessions in every:
            sessions.after_fork()
        if self._calls or any(sessions.inherited for sessions in every):
            self.own.inherited = True
        for scope in self._calls:
            scope.after_fork()

    def _every(self) -> tuple[Sessions, ...]:
        with self._lock:
            return self.own, *self._others.values()

    def _open_of(self, label: str) -> Sessions:
        return self._open(next(backend for backend in self._backends() if backend.label == label))


def _forked(manifest: Manifest) -> LatentRTError:
    return LatentRTError(
        f"this process was forked after {manifest.folder} was opened and used, and engines do not run in a forked "
        f"process: open the bundle again in this process, after the fork"
    )


def _closed() -> LatentRTError:
    return LatentRTError("the autoencoder was closed: open the bundle again")
