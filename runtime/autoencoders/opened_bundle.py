"""A bundle that was opened, as parts: each part does one step of a call."""

from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any, NoReturn

from ..arrays.grid import Grid
from ..arrays.ran import Ran
from ..backends.backend import Backend
from ..backends.choose import choose_backend, graphs_of, other_backends
from ..backends.sessions import EngineSets, Sessions
from ..bundle.graph import Graph
from ..bundle.manifest import Manifest
from ..bundle.verified_files import Verify
from ..calls.jobs import Job, Jobs
from ..calls.options import CallOptions
from ..execution.run import run
from ..planner.policy import CallPlanner
from ..selftest.policy import Selftest, checked_policy

if TYPE_CHECKING:
    from ..calls.stream_jobs import StreamJobs
    from ..selftest.report import SelftestReport
    from ..selftest.selftest import SelfTest

__all__ = ["OpenedBundle"]


class OpenedBundle:
    """The parts of an autoencoder. The options are those of `open_bundle`.

    Attributes:
        manifest: what the bundle holds, as it was when it was opened.
        backend: the backend that runs the engines.
        label: the backend and its provider, such as "onnxruntime:cpu".
        dtype: the precision of the computation, as it was asked for.
        grid: the legal sizes.
        jobs: checks calls.
        streams: checks streams.
        planning: settles how calls run.
        engines: the engines, which hold memory.
    """

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
        selftest: Selftest = "once",
    ) -> None:
        self._policy = checked_policy(selftest)
        if digest is not None:
            manifest.check_digest(digest)
            verify = "once" if verify == "never" else verify  # the digest is of the hashes; the files must have them
        manifest.check_rules()
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
        self.manifest = manifest
        self.backend = chosen = choose_backend(manifest, **options)
        self.dtype = chosen.dtype
        self.label = chosen.label
        others = cache(partial(other_backends, manifest, chosen, **options))
        own = Sessions(manifest, chosen, contexts, verify)
        self.engines = EngineSets(own, others, lambda other: Sessions(manifest, other, contexts, verify))
        self.grid = Grid.of(manifest.config)
        self.jobs = Jobs(
            manifest,
            chosen.graph_dtype,
            self.grid,
            device=chosen.device,
            takes_stream=chosen.capabilities.callers_stream,
            backend=self.label,
        )
        self.planning = CallPlanner(manifest, chosen, others)
        self._results_depend_on = {"threads": threads, "session_options": repr(session_options)}
        # A backend of the caller's has no version by which a test could be remembered.
        is_tested = manifest.samples is not None and not isinstance(backend, Backend)
        if self._policy == "always" or (self._policy == "once" and is_tested):
            self.engines.proof = self._prove
        if self._policy == "always":
            self._test_now()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse pickling and copying, as the engines do.

        Raises:
            TypeError: always.
        """
        self.engines.__reduce_ex__(protocol)

    @cached_property
    def streams(self) -> "StreamJobs":
        from ..calls.stream_jobs import StreamJobs  # here: image models do not import it

        return StreamJobs(self.jobs, self.grid)

    def run(self, job: Job, options: CallOptions) -> tuple[Any, Ran]:
        """Plan and run a checked job: one call, which `cancel` reaches from here on. Gives the result, and how it ran.

        Raises:
            InputError: nothing fits into the memory budget. EngineError, Cancelled: see there.
        """
        with self.engines.call(options.cancel) as scope:
            job = self.planning.settle(job, options.memory, scope.check)
            return run(self.engines, job, scope), job.ran(self.label, self.dtype)

    def selftest(self) -> "SelftestReport":
        """Run the golden samples of the bundle in every way. See `BundleModel.selftest`."""
        with self.engines.call() as scope:
            return self._selftest.report(self.engines.own, scope)

    @cached_property
    def _selftest(self) -> "SelfTest":
        from ..selftest.selftest import SelfTest  # here: a program that only plans calls does not import it

        return SelfTest(self.manifest, self.engines, self.jobs, self._policy, self._results_depend_on)

    def _prove(self, *call: Any) -> None:
        """Test engines. From the second test on, the self-test is called itself."""
        self.engines.proof = self._selftest.prove
        self.engines.proof(*call)

    def _test_now(self) -> None:
        try:
            with self.engines.call() as scope:
                self._selftest.prove_all(self.engines.own, scope)
        except BaseException:
            self.engines.close()
            raise

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The graphs of whole passes, in the precision that the backend takes."""
        return graphs_of(self.manifest, self.backend.graph_dtype)

    def load(self, component: str, *, streaming: bool = False) -> None:
        """Load the engines of a whole pass, or those of a stream if the bundle has streaming graphs.

        Raises:
            BundleError: the bundle lacks the component. EngineError: an engine does not load.
        """
        streams = self.manifest.find_streams(component, self.backend.graph_dtype) if streaming else ()
        for graph in streams or (self.jobs.graph(component, None),):
            self.engines.own.component(graph)
