"""The self-test of one opened bundle: before engines are first used, and all of it on request."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..arrays.latents import scale_latents, unscale_latents
from ..backends.backend import Backend
from ..backends.component import CallScope
from ..backends.sessions import EngineSets, Proven, Sessions
from ..bundle.graph import Graph
from ..bundle.manifest import Manifest
from ..calls.jobs import Jobs
from ..calls.strategy import Way
from ..errors import BundleError, InputError, OutputError, SelftestError
from ..system.forked_process import observe_forks
from .golden_samples import GoldenSample, GoldenSamples
from .passed_tests import PassedTests
from .policy import Selftest
from .psnr import psnr
from .report import LEAST_PSNR_DB, SelftestReport, SelftestRow
from .sample_run import run_sample

__all__ = ["SelfTest"]

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.05


class SelfTest:
    """Tests the engines of one opened bundle. Thread-safe.

    A component is tested in each way (whole, stream, strips, stream in strips) when that way is first used, so that
    nothing is loaded for the test alone. Failed tests are not remembered.

    Args:
        manifest: the bundle.
        engines: the engines.
        jobs: makes the jobs of samples.
        policy: when engines are tested.
        options: options that change results, such as the number of threads, as JSON values.
    """

    def __init__(
        self, manifest: Manifest, engines: EngineSets, jobs: Jobs, policy: Selftest, options: Mapping[str, Any]
    ) -> None:
        self._manifest, self._engines, self._jobs = manifest, engines, jobs
        self._policy, self._options = policy, options
        self._running: set[Proven] = set()
        self._records: dict[str, PassedTests] = {}
        self._golden: GoldenSamples | None = None
        self._lock = threading.RLock()
        observe_forks(self)

    def prove(self, sessions: Sessions, way: Way, graph: Graph, scope: CallScope) -> None:
        """Test engines before their first use, unless they passed here before.

        Args:
            sessions: the engines of one backend.
            way: which graphs the call runs.
            graph: the component's whole graph, or the first stage of a stream.
            scope: the call that waits for the test.

        Raises:
            SelftestError: a result is not the reference's. BundleError: the file of samples is damaged.
            EngineError, Cancelled: see there.
        """
        test = sessions, way, graph.component, graph.causal
        if test in self._engines.proven:
            return
        with self._turn(scope):
            if test in self._engines.proven or test in self._running:  # the samples of the test run through here too
                return
            self._running.add(test)
            try:
                self._test(sessions, way, graph, scope)
            finally:
                self._running.discard(test)
            self._engines.proven.add(test)

    def report(self, sessions: Sessions, scope: CallScope) -> SelftestReport:
        """Run every sample in every way. Nothing is remembered.

        Raises:
            BundleError: the bundle holds no golden samples, or their file is damaged.
            EngineError, Cancelled: see there.
        """
        golden = self._samples()
        rows = [self._latents_row(golden, sessions.backend)]
        for graph in self._whole_graphs(sessions.backend):
            for way in self._ways(graph):
                with self._turn(scope):
                    test = sessions, way, graph.component, graph.causal
                    self._running.add(test)
                    try:
                        samples = golden.of_component(graph.component)
                        rows.extend(self._row(sessions, sample, way, graph, scope) for sample in samples)
                    finally:
                        self._running.discard(test)
        return SelftestReport(tuple(row for row in rows if row is not None))

    def prove_all(self, sessions: Sessions, scope: CallScope) -> None:
        """Test the whole graphs of every component now.

        Raises:
            SelftestError, BundleError, EngineError, Cancelled: as in `prove` and `report`.
        """
        self._samples()
        for component in self._manifest.components:
            graph = next(one for one in self._whole_graphs(sessions.backend) if one.component == component)
            self.prove(sessions, "whole", graph, scope)

    def after_fork(self) -> None:
        """Give up the tests that ran in the parent process."""
        self._lock, self._running = threading.RLock(), set()

    def _test(self, sessions: Sessions, way: Way, graph: Graph, scope: CallScope) -> None:
        backend, name = sessions.backend, _name(graph, way)
        record = self._record(backend)
        if record is not None and record.holds(name, self._kept(backend, way, graph)):
            return
        golden = self._samples()
        row = self._latents_row(golden, backend)
        if row is not None and not row.passed:
            raise self._refusal(row)
        samples = golden.of_component(graph.component)
        ran = 0
        for sample in _chosen(samples, way):
            row = self._row(sessions, sample, way, graph, scope)
            if row.reason is not None:
                _log.warning("not tested: the %s of %s: %s", graph.component, self._manifest.folder, row.reason)
            elif not row.passed:
                raise self._refusal(row)
            else:
                ran += 1
        if record is not None and ran:
            record.add(name, self._kept(backend, way, graph))

    def _row(self, sessions: Sessions, sample: GoldenSample, way: Way, graph: Graph, scope: CallScope) -> SelftestRow:
        backend = sessions.backend
        label = None if sessions is self._engines.own else backend.label
        started = time.perf_counter()
        found: float | None = None
        reason = None
        try:
            result = run_sample(self._engines, self._jobs, sample, way, graph.causal, scope, label)
            found = sample.outputs[graph.causal].psnr_db(result)
        except (InputError, OutputError) as error:  # an engine of few sizes; no folder for the frames of strips
            reason = str(error)
        return SelftestRow(
            backend=backend.label,
            dtype=backend.dtype,
            component=graph.component,
            causal=graph.causal,
            way=way,
            sample=sample.number,
            psnr_db=found,
            least_psnr_db=LEAST_PSNR_DB[backend.dtype],
            seconds=time.perf_counter() - started,
            reason=reason,
        )

    def _latents_row(self, golden: GoldenSamples, backend: Backend) -> SelftestRow | None:
        """The conversion between the two spaces of latents, which runs in NumPy with the numbers of the config."""
        if golden.latents is None:
            return None
        model, diffusion = golden.latents
        config, started = self._manifest.config, time.perf_counter()
        try:
            scaled, unscaled = scale_latents(model, config), unscale_latents(diffusion, config)
            same = scaled.shape == diffusion.shape and unscaled.shape == model.shape
            found = min(psnr(scaled, diffusion), psnr(unscaled, model)) if same else float("-inf")
        except ValueError as error:  # shapes that do not go together
            raise BundleError(
                f"{self._manifest.folder} holds golden samples of other latents ({error}): copy the bundle again"
            ) from error
        seconds = time.perf_counter() - started
        least = LEAST_PSNR_DB["float32"]
        return SelftestRow(backend.label, "float32", "latents", None, "whole", 0, found, least, seconds)

    def _refusal(self, row: SelftestRow) -> SelftestError:
        folder = self._manifest.folder
        part = "conversion of latents" if row.component == "latents" else f"{row.component} ({row.way})"
        return SelftestError(
            f"{folder} failed its self-test: the {part} on {row.backend} in {row.dtype} reaches {row.psnr_db:.1f} dB "
            f"against the PyTorch reference and needs {row.least_psnr_db:g} dB, so a part of the bundle is damaged or "
            f"of another model, or the backend computes wrongly: run `latentrt selftest` for details, export again, or "
            f"take another backend"
        )

    def _samples(self) -> GoldenSamples:
        if self._golden is None:
            found = GoldenSamples.of(self._manifest)
            if found is None:
                raise BundleError(
                    f"{self._manifest.folder} holds no golden samples to test engines with: export it again with this "
                    f"version of latentrt"
                )
            self._golden = found
        return self._golden

    def _record(self, backend: Backend) -> PassedTests | None:
        if self._policy != "once":
            return None
        if backend.label not in self._records:
            self._records[backend.label] = PassedTests(self._manifest, backend, self._options)
        return self._records[backend.label]

    def _kept(self, backend: Backend, way: Way, graph: Graph) -> dict[str, str]:
        """The compiled models that the backend keeps for the graphs of a test."""
        graphs: tuple[Graph, ...] = (graph,)
        if way in ("stream", "stream in strips"):
            graphs = self._manifest.find_streams(graph.component, graph.dtype)
        elif way == "strips":
            graphs = self._manifest.find_strip_graphs(graph.component, graph.dtype)
        return {f"{one.file}/{name}": digest for one in graphs for name, digest in backend.kept_models(one).items()}

    def _whole_graphs(self, backend: Backend) -> list[Graph]:
        return [graph for graph in self._manifest.graphs if graph.dtype == backend.graph_dtype]

    def _ways(self, graph: Graph) -> list[Way]:
        ways: list[Way] = ["whole"]
        own = graph.causal == self._manifest.config.causal(graph.component)
        streams = self._manifest.find_streams(graph.component, graph.dtype)
        if streams and own and (graph.component == "decoder" or graph.causal):
            ways.append("stream")
            if all(stage.halo is not None for stage in streams):
                ways.append("stream in strips")
        if self._manifest.find_strip_graphs(graph.component, graph.dtype):
            ways.append("strips")
        return ways

    @contextmanager
    def _turn(self, scope: CallScope) -> Iterator[None]:
        """Wait for the test of another thread."""
        lock = self._lock
        while not lock.acquire(timeout=_POLL_SECONDS):
            scope.check()
        try:
            yield
        finally:
            lock.release()


def _name(graph: Graph, way: Way) -> str:
    ending = "" if graph.causal is None else " causal" if graph.causal else " non-causal"
    return f"{graph.component} {way}{ending}"


def _chosen(samples: tuple[GoldenSample, ...], way: Way) -> tuple[GoldenSample, ...]:
    """The samples that run before a first use: few, so that the use does not wait long."""
    if way == "strips":
        return samples[-1:]
    tall = tuple(sample for sample in samples if sample.is_tall)
    if way == "stream in strips":
        return tall or samples[-1:]
    long = tuple(sample for sample in samples if sample.is_long)
    if way == "stream":
        return long or samples[-1:]
    return tuple(sample for sample in samples if not sample.is_long and not sample.is_tall)
