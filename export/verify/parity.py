"""Compares backends with the PyTorch reference, per graph, on random arrays and on the user's samples."""

import errno
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ...runtime import open_bundle
from ...runtime.arrays.kinds import Dtype
from ...runtime.autoencoders.autoencoder import Autoencoder
from ...runtime.backends.choose import backends_here, choose_backend
from ...runtime.backends.names import LIBRARIES, BackendName, ProviderName
from ...runtime.bundle.graph import Graph
from ...runtime.bundle.manifest import Manifest
from ...runtime.bundle.verification_record import with_records
from ...runtime.calls.conditions import DECODE_TIMESTEP
from ...runtime.config.kl import MissingScalingFactor
from ...runtime.errors import BackendUnavailable, CheckpointError, EngineError, InputError, OutputError
from ...runtime.files.sources import list_inputs, read_sample
from ..checkpoints import Checkpoint, SourceOptions, open_checkpoint
from ..memory_errors import memory_errors
from .parity_inputs import ParityInputs
from .quality import psnr
from .reference import SEED, Reference, timed
from .report import Comparison, NotCompared, ParityReport
from .settings import VerifySettings
from .versions import versions_with

__all__ = ["verify_bundle"]

Array = NDArray[np.float32]
_Run = tuple[BackendName, ProviderName | None, Dtype]
_log = logging.getLogger(__name__)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def verify_bundle(
    bundle: str | Path,
    source: str | Path,
    settings: VerifySettings | None = None,
    on_row: Callable[[Comparison], None] | None = None,
) -> ParityReport:
    """Compare the graphs of a bundle with the PyTorch reference, on every backend that can run here.

    Each graph runs whole, and as a stream and in strips if the bundle holds graphs for them. The inputs are random
    arrays and the samples of the settings. Each profile of an engine runs at least once. The bundle's manifest keeps a
    record for each backend and precision, unless the bundle is read-only. Records of others stay.

    Args:
        bundle: the bundle.
        source: the checkpoint that the bundle was exported from, as `export_bundle` takes it.
        settings: what to compare; by default `VerifySettings()`.
        on_row: called with each comparison as soon as it is made.

    Raises:
        CheckpointError: `source` is not the checkpoint that the bundle was exported from.
        ConfigError: the checkpoint's config cannot be used.
        BundleError: the bundle is damaged.
        BackendUnavailable: the backend that the settings name cannot run here.
        InputError: the bundle does not hold the precision that the settings name, or a setting has a wrong value.
        MediaError: a sample cannot be read.
        OutputError: the report cannot be stored, for example because the disk is full.
        EngineError: nothing could be compared, or memory ran out.
    """
    settings = settings or VerifySettings()
    manifest = Manifest.open(Path(bundle))
    dtype = settings.dtype
    precisions = dict.fromkeys(cast("Dtype", graph.dtype) for graph in manifest.graphs) if dtype is None else (dtype,)
    reference = Reference(_matching_checkpoint(manifest, source, settings.source))
    rows: list[Comparison] = []
    missing: list[NotCompared] = []
    for chosen, name, precision in _runs(manifest, settings.backend, settings.provider, precisions):
        engine: dict[str, Any] = {"backend": chosen, "provider": name, "dtype": precision, "threads": settings.threads}
        with open_bundle(bundle, selftest="never", **engine) as vae:  # it is compared on more than the samples
            before = len(rows), len(missing)
            for row in _compare(vae, manifest, reference, precision, settings.samples, settings.max_frames):
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
    report = ParityReport(tuple(rows), settings.min_psnr_db, tuple(missing))
    backends = {row.backend for row in rows} | {row.backend for row in missing}
    date = datetime.now(UTC).isoformat(timespec="seconds")
    records = report.records(date, {name: versions_with(name) for name in backends})
    try:
        Manifest.update(
            manifest.folder, lambda now: replace(now, verifications=with_records(now.verifications, records))
        )
    except OutputError as error:
        if getattr(error.__cause__, "errno", None) not in _READ_ONLY:
            raise
        _log.warning("the report is not stored in %s, which may not be written", manifest.folder)
    return report


def _matching_checkpoint(manifest: Manifest, source: Path | str, options: SourceOptions | None) -> Checkpoint:
    """Open the checkpoint with its own scaling, or with the scaling that the bundle was exported with."""
    config = manifest.config
    numbers = {"scaling_factor": config.scaling_factor, "shift_factor": config.shift_factor}
    exported = {key: value for key, value in numbers.items() if value is not None}
    for overrides in (
        {},
        exported,
        {"scaling_factor": 1.0, "shift_factor": None},
    ):  # the last one opens any checkpoint, to read its family
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
    manifest: Manifest, backend: BackendName, provider: ProviderName | None, precisions: Iterable[Dtype]
) -> list[_Run]:
    """Return each (backend, provider, precision) that can run here, or that the user named.

    A named backend that cannot run is included: opening it reports the reason.
    """
    labels = [label for label, reason in backends_here() if reason is None] or ["onnxruntime:cpu"]
    if provider is not None:
        labels = [f"onnxruntime:{provider}"]
    elif backend != "auto":
        labels = [label for label in labels if label.partition(":")[0] == backend] or [backend]
    found: list[_Run] = []
    for label in labels:
        name, _, its_provider = label.partition(":")
        for precision in precisions:
            named = provider is not None or backend == name
            if named or _can_run(manifest, name, its_provider or None, precision):
                found.append(cast("_Run", (name, its_provider or None, precision)))
    return found or [(backend, provider, next(iter(precisions)))]


def _can_run(manifest: Manifest, name: str, provider: str | None, precision: str) -> bool:
    try:
        choose_backend(manifest, backend=name, provider=provider, dtype=precision)
    except (BackendUnavailable, InputError) as reason:
        if any((record.backend, record.dtype) == (name, precision) for record in manifest.engines):
            _log.warning("not compared: %s", reason)  # the engine is for another GPU or another version
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
                    with memory_errors(f"{graph.file} on {given.array.shape}, {way},"):
                        (got, strategy), seconds = timed(partial(_run, vae, graph, given.array, way))
                except InputError as refusal:
                    if vae.backend not in LIBRARIES:
                        raise
                    _log.warning("not compared: %s", refusal)  # an engine takes only the sizes of its profiles
                    continue
                except EngineError as error:  # a float16 stream that overflows cannot run again in float32
                    if way != "stream":
                        raise
                    yield NotCompared(vae.backend, dtype, f"{graph.component}, {way}: {error}")
                    continue
                if wanted is None:  # the reference runs only on inputs that the engine took
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
    """Encode a sample to moments, or decode latents to a sample. Returns the result and the strategy of the row: the
    planner chooses it if the whole might not fit into memory."""
    options: dict[str, Any] = {}
    if graph.component == "decoder":
        options = {"rng": SEED}
        if vae.config.timestep_conditioning:
            options["temb"] = DECODE_TIMESTEP
    if way == "stream":
        run = vae.encode_stream if graph.component == "encoder" else vae.decode_stream
        return np.concatenate(list(run(array, **options)), axis=2), way
    if way == "whole":
        options["causal"] = graph.causal  # an explicit causality runs no streaming graphs
    if way == "strips":
        height = array.shape[2] // (vae.grid.spatial if graph.component == "encoder" else 1)
        vae.enable_tiling(exact=True, strip=max(height // 2, 1) * vae.grid.spatial)
    try:
        if graph.component == "encoder":
            encoded = vae.encode(array, check_range=False, **options)
            return np.asarray(encoded.latent_dist.parameters), encoded.ran.strategy if way == "whole" else way
        decoded = vae.decode(array, **options)
        return np.asarray(decoded.sample), decoded.ran.strategy if way == "whole" else way
    finally:
        vae.disable_tiling()
