"""How far every backend is from the PyTorch reference: per graph, on random arrays and on the user's own samples."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime import open_bundle
from ...runtime.autoencoders.autoencoder import Autoencoder
from ...runtime.backends.choose import backends_here, choose_backend
from ...runtime.backends.tensorrt.opener import LIBRARIES
from ...runtime.bundle.manifest import Graph, Manifest
from ...runtime.calls.conditions import DECODE_TIMESTEP
from ...runtime.config import MissingScalingFactor
from ...runtime.errors import BackendUnavailable, CheckpointError, EngineError, InputError
from ...runtime.files.sources import list_inputs, read_sample
from ..checkpoints import Checkpoint, SourceOptions, open_checkpoint
from ..memory_errors import memory_errors
from .parity_inputs import ParityInputs
from .quality import psnr
from .reference import SEED, Reference, timed

__all__ = ["Comparison", "NotCompared", "ParityReport", "verify_bundle"]

Array = NDArray[np.float32]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """One graph on one input. `max_abs` and `relative` (max_abs over the reference's largest magnitude) are of the
    output; `psnr_db` takes the reference's range (max - min) as its peak; times are of one call, in seconds.
    `strategy`: how it ran: "whole" (or as it is planned, where that might not fit into memory), as a "stream", or in
    exact "strips"."""

    backend: str
    dtype: str
    component: str
    causal: bool | None
    sample: str
    shape: tuple[int, ...]
    max_abs: float
    relative: float
    psnr_db: float
    seconds: float
    reference_seconds: float
    strategy: str = "whole"


@dataclass(frozen=True)
class NotCompared:
    """What should have been compared and was not, and why."""

    backend: str
    dtype: str
    reason: str


@dataclass(frozen=True)
class ParityReport:
    """All comparisons, and whether each reached `min_psnr_db`. What was not compared has not passed."""

    comparisons: tuple[Comparison, ...]
    min_psnr_db: float
    not_compared: tuple[NotCompared, ...] = ()

    @property
    def worst_psnr_db(self) -> float:
        return min(row.psnr_db for row in self.comparisons)

    @property
    def passed(self) -> bool:
        return self.worst_psnr_db >= self.min_psnr_db and not self.not_compared

    def to_json(self) -> dict[str, Any]:
        """For JSON, which has no NaN and no infinity: those become null."""
        return {
            "passed": self.passed,
            "min_psnr_db": self.min_psnr_db,
            "worst_psnr_db": _finite(self.worst_psnr_db),
            "comparisons": [{key: _finite(value) for key, value in asdict(row).items()} for row in self.comparisons],
            "not_compared": [asdict(row) for row in self.not_compared],
        }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def verify_bundle(
    bundle: Path,
    source: Path | str,
    *,
    samples: Sequence[Path] = (),
    max_frames: int = 17,
    min_psnr_db: float = 45.0,
    backend: str = "auto",
    provider: str | None = None,
    threads: int | None = None,
    dtype: str | None = None,
    source_options: SourceOptions | None = None,
    on_row: Callable[[Comparison], None] | None = None,
) -> ParityReport:
    """Compare the bundle's graphs on every backend that can run here with the reference model of `source`: whole, and
    where the bundle holds graphs for it as streams (and as a plain call of a clip runs) and in exact strips. Of engines
    each profile is called at least once.

    `backend`, `provider` and `dtype` narrow the choice. Clips among `samples` are cut to `max_frames`. The result is
    stored in the bundle's manifest.

    Raises:
        CheckpointError: the source is not the one that the bundle came from. EngineError: nothing could be compared,
            or memory ran out.
        BundleError, ConfigError: see there.
    """
    manifest = Manifest.open(bundle)
    precisions = dict.fromkeys(graph.dtype for graph in manifest.graphs) if dtype is None else (dtype,)
    reference = Reference(_matching_checkpoint(manifest, source, source_options))
    rows: list[Comparison] = []
    missing: list[NotCompared] = []
    for chosen, name, precision in _runs(manifest, backend, provider, precisions):
        with open_bundle(bundle, backend=chosen, provider=name, dtype=precision, threads=threads) as vae:
            before = len(rows), len(missing)
            for row in _compare(vae, manifest, reference, precision, samples, max_frames):
                if isinstance(row, NotCompared):
                    missing.append(row)
                    continue
                rows.append(row)
                if on_row is not None:
                    on_row(row)
            if before == (len(rows), len(missing)):
                reason = "its engines take none of the sizes that could be compared: build with another --tile"
                missing.append(NotCompared(vae.backend, precision, reason))
    if not rows:
        raise EngineError("; ".join(f"{row.backend} {row.dtype} was not compared: {row.reason}" for row in missing))
    report = ParityReport(tuple(rows), min_psnr_db, tuple(missing))
    Manifest.update(bundle, lambda now: replace(now, verification=report.to_json()))
    return report


def _matching_checkpoint(manifest: Manifest, source: Path | str, options: SourceOptions | None) -> Checkpoint:
    """The checkpoint with its own numbers, or with those that the bundle was exported with."""
    config = manifest.config
    numbers = {"scaling_factor": config.scaling_factor, "shift_factor": getattr(config, "shift_factor", None)}
    exported = {key: value for key, value in numbers.items() if value is not None}
    for overrides in ({}, exported, {"scaling_factor": 1.0, "shift_factor": None}):  # the last one tells the family
        try:
            checkpoint = open_checkpoint(source, overrides, options)
        except MissingScalingFactor:
            continue
        if checkpoint.config.family != manifest.family:
            raise CheckpointError(
                f"{source} is an {checkpoint.config.family} and {manifest.folder} holds an {manifest.family}: give the "
                f"checkpoint that it was exported from"
            )
        checkpoint = checkpoint.with_statistics()
        if checkpoint.config == config:
            return checkpoint
    raise CheckpointError(f"{source} is not what {manifest.folder} was exported from: their configs differ")


def _runs(
    manifest: Manifest, backend: str, provider: str | None, precisions: Iterable[str]
) -> list[tuple[str, str | None, str]]:
    """Every (backend, provider, precision) that can run here, or those asked for: opening them says what is missing."""
    labels = [label for label, reason in backends_here() if reason is None] or ["onnxruntime:cpu"]
    if provider is not None:
        labels = [f"onnxruntime:{provider}"]
    elif backend != "auto":
        labels = [label for label in labels if label.partition(":")[0] == backend] or [backend]
    found: list[tuple[str, str | None, str]] = []
    for label in labels:
        name, _, of = label.partition(":")
        for precision in precisions:
            asked = provider is not None or backend == name
            if asked or _can_run(manifest, name, of or None, precision):
                found.append((name, of or None, precision))
    return found or [(backend, provider, next(iter(precisions)))]


def _can_run(manifest: Manifest, name: str, provider: str | None, precision: str) -> bool:
    try:
        choose_backend(manifest, backend=name, provider=provider, dtype=precision)
    except (BackendUnavailable, InputError) as reason:
        if any((record.backend, record.dtype) == (name, precision) for record in manifest.engines):
            _log.warning("not compared: %s", reason)  # built for another GPU, or by another version
        return False
    return True


def _compare(
    vae: Autoencoder,
    manifest: Manifest,
    reference: Reference,
    dtype: str,
    samples: Sequence[Path],
    max_frames: int,
) -> Iterator[Comparison | NotCompared]:
    files = [file for path in samples for file in list_inputs(path, vae) or [path]]
    own = [(file.name, read_sample(file, vae, max_frames=max_frames).sample) for file in files]
    inputs = ParityInputs(vae, manifest)
    for graph in vae.graphs:
        for given in [*inputs.random(graph), *inputs.own(graph, own, reference)]:
            wanted: Array | None = None
            for way in given.ways:
                try:
                    with memory_errors(f"{graph.file} on {'x'.join(map(str, given.array.shape))}, {way},"):
                        (got, strategy), seconds = timed(partial(_run, vae, graph, given.array, way))
                except InputError as refusal:
                    if vae.backend not in LIBRARIES:
                        raise
                    _log.warning("not compared: %s", refusal)  # an engine takes the sizes it was built for
                    continue
                except EngineError as error:  # in float16 a stream cannot be run again in float32
                    if way != "stream":
                        raise
                    yield NotCompared(vae.backend, dtype, f"{graph.component}, {way}: {error}")
                    continue
                if wanted is None:  # only of what the engine took
                    wanted, reference_seconds = reference.timed(graph.component, given.array, graph.causal)
                largest = float(np.abs(got.astype(np.float64) - wanted).max())
                yield Comparison(
                    backend=vae.backend,
                    dtype=dtype,
                    component=graph.component,
                    causal=graph.causal,
                    sample=given.label,
                    shape=tuple(given.array.shape),
                    max_abs=largest,
                    relative=largest / (float(np.abs(wanted).max()) or 1.0),
                    psnr_db=psnr(got, wanted),
                    seconds=seconds,
                    reference_seconds=reference_seconds,
                    strategy=strategy,
                )


def _run(vae: Any, graph: Graph, array: Array, way: str) -> tuple[Array, str]:
    """Moments of a sample, or the sample of latents, and how it ran: what might not fit into memory is planned."""
    options: dict[str, Any] = {}
    if graph.component == "decoder":
        options = {"rng": SEED}
        if getattr(vae.config, "timestep_conditioning", False):
            options["temb"] = DECODE_TIMESTEP
    if way == "stream":
        run = vae.encode_stream if graph.component == "encoder" else vae.decode_stream
        return np.concatenate(list(run(array, **options)), axis=2), way
    if way == "whole":
        options["causal"] = graph.causal  # which leaves streaming graphs out
    if way == "strips":
        height = array.shape[2] // (vae.grid.spatial if graph.component == "encoder" else 1)
        vae.enable_tiling(exact=True, strip=max(height // 2, 1) * vae.grid.spatial)
    try:
        if graph.component == "encoder":
            encoded = vae.encode(array, **options)
            return np.asarray(encoded.latent_dist.parameters), encoded.ran.strategy if way == "whole" else way
        decoded = vae.decode(array, **options)
        return np.asarray(decoded.sample), decoded.ran.strategy if way == "whole" else way
    finally:
        vae.disable_tiling()
