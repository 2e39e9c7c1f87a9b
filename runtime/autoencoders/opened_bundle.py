"""A bundle that was opened: what it holds, what runs it, and the life of its engines."""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from ..arrays.grid import Grid
from ..backends.backend import Backend
from ..backends.choose import choose_backend, graphs_of, other_backends
from ..backends.engine_sets import EngineSets
from ..backends.sessions import Sessions
from ..bundle.graph import Graph
from ..bundle.manifest import Manifest
from ..bundle.verified_files import Verify
from ..calls.jobs import Jobs
from ..calls.workload import Workload
from ..config.model_config import ModelConfig
from ..errors import BundleError
from ..planner.policy import CallPlanner

__all__ = ["OpenedBundle"]


class OpenedBundle:
    """What every family's class has beside its calls. It holds memory: a context manager, or `close` it."""

    family: ClassVar[str]

    def __init__(
        self,
        manifest: Manifest,
        *,
        backend: str | Backend = "auto",
        dtype: str = "float32",
        provider: str | None = None,
        threads: int | None = None,
        contexts: int = 1,
        session_options: Any = None,
        allow_build: bool = True,
        verify: Verify = "once",
        digest: str | None = None,
        engines: bool | None = None,
    ) -> None:
        if digest is not None:
            manifest.check_digest(digest)
            verify = "once" if verify == "never" else verify  # the digest is of the hashes; the files must have them
        options: dict[str, Any] = {
            "backend": backend,
            "dtype": dtype,
            "provider": provider,
            "threads": threads,
            "session_options": session_options,
            "contexts": contexts,
            "allow_build": allow_build,
            "engines": (digest is None) if engines is None else engines,
        }
        chosen = choose_backend(manifest, **options)
        self._manifest = manifest
        self._sessions = Sessions(manifest, chosen, contexts, verify)
        others = cache(partial(other_backends, manifest, chosen, **options))
        self._engines = EngineSets(self._sessions, others, lambda other: Sessions(manifest, other, contexts, verify))
        self.grid = Grid.of(manifest.config)
        self._jobs = Jobs(manifest, chosen.graph_dtype, self.grid, chosen.device)
        self._planning = CallPlanner(manifest, chosen, self.grid, others)

    @classmethod
    def from_pretrained(cls, bundle: str | Path, **options: Any) -> Self:
        """Open a bundle of this family; `options` as in `open_bundle`.

        Raises:
            BundleError: the bundle is damaged, or of the other family.
        """
        manifest = Manifest.open(Path(bundle))
        if manifest.family != cls.family:
            raise BundleError(f"{bundle} holds an {manifest.family}, not an {cls.family}: open it with open_bundle")
        return cls(manifest, **options)

    @property
    def config(self) -> ModelConfig:
        """The model's config, frozen, with the field names of diffusers."""
        return self._manifest.config

    @property
    def video(self) -> bool:
        """Whether samples are clips instead of pictures."""
        return self.config.video

    @property
    def manifest(self) -> Manifest:
        """What the bundle holds, as it was when it was opened."""
        return self._manifest

    @property
    def dtype(self) -> str:
        """The precision of the computation, as it was asked for."""
        return self._sessions.backend.dtype

    @property
    def backend(self) -> str:
        """The backend and provider that run the engines, such as "onnxruntime:cpu"."""
        return self._sessions.backend.label

    @property
    def device(self) -> str:
        """Where the engines run, and whose memory a budget is of: "cpu" or "cuda"."""
        return self._sessions.backend.device

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The bundle's graphs that run (not the streaming ones): of the precision that was asked for, or of float32
        where the backend lowers them itself."""
        return graphs_of(self._manifest, self._sessions.backend.graph_dtype)

    def planner(self) -> Any:
        """The `Planner` of this bundle with this backend, and its `Calibration` (None where engines' records say what
        they take).

        Raises:
            BackendUnavailable: the backend runs on a device whose memory nobody knows.
        """
        return self._planning.planner()

    def default_budget(self) -> int:
        """What a call may take where nobody says how much, in bytes: a share of what is free where it runs."""
        return self._planning.default_budget()

    def workload(
        self, component: str, batch: int, cells: Sequence[int], output: str = "float32", **options: Any
    ) -> Workload:
        """A call on latents of `cells`, (T,) H, W, as the planner takes it; `options`: further fields of `Workload`."""
        return self._planning.workload(component, batch, cells, output, **options)

    def load(self, component: str, *, streaming: bool = False) -> None:
        """Load what a whole pass, or a stream, of the "encoder" or the "decoder" runs on.

        Raises:
            BundleError: the bundle lacks it. EngineError: it does not load.
        """
        streams = self._manifest.find_streams(component, self._sessions.backend.graph_dtype) if streaming else ()
        for graph in streams or (self._jobs.graph(component, None),):
            self._sessions.component(graph)

    def cancel(self) -> None:
        """Stop every call that runs or waits now, from another thread; each raises `Cancelled`. To stop one call, give
        it a `CancelToken`."""
        self._engines.cancel()

    def release(self) -> None:
        """Free the engines' memory, when what they still do on a GPU is done; the next call loads them again."""
        self._engines.release()

    def close(self) -> None:
        """Release everything; further calls raise."""
        self._engines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
