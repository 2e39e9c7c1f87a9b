"""Building the engines of a bundle: engines that are up to date stay, missing and stale engines are built."""

import datetime
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...runtime.backends.cuda.devices import compute_capability, gpu_name, has_nvidia_driver
from ...runtime.backends.names import LIBRARIES
from ...runtime.bundle.engine_records import EngineRecord
from ...runtime.bundle.manifest import Manifest
from ...runtime.errors import BackendUnavailable, EngineError
from ...runtime.system.cache_folder import cache_folder
from ...runtime.system.file_lock import locked
from ...runtime.system.hashing import sha256_of
from ...runtime.system.outputs.partial_output import partial_output, translated_errors
from .order import EngineOrder, engine_orders
from .process import library_version, run_worker
from .settings import BuildSettings
from .sharing import taken_engine
from .weight_bytes import weight_bytes

__all__ = ["BuiltEngine", "build_engines"]

_log = logging.getLogger(__name__)
_STEPS = 1000
BuildProgress = Callable[[int, int], None]
"""Called with (steps done, steps in all), over all engines of a call."""


@dataclass(frozen=True)
class BuiltEngine:
    """An engine of the bundle.

    Attributes:
        record: the engine's entry in the manifest.
        fresh: the engine was built by this call; otherwise the bundle had it already.
        taken: the engine was taken from another bundle by this call.
    """

    record: EngineRecord
    fresh: bool
    taken: bool = False


def build_engines(
    bundle: str | Path, settings: BuildSettings, progress: BuildProgress | None = None, source: str | Path | None = None
) -> tuple[BuiltEngine, ...]:
    """Build TensorRT engines for the graphs of a bundle, and record each in the manifest as soon as it is built.

    An engine that the bundle has already is not built again.

    Args:
        bundle: the bundle's folder.
        settings: what to build.
        progress: is called with (steps done, steps in all), over all engines of the call.
        source: another bundle to take missing engines from instead of building them, for fine-tunes with the same
            graphs. The engines then take other weights: this sets `refit`.

    Returns:
        One entry for each graph of the chosen components and precisions, in the order of the graphs.

    Raises:
        InputError: a wrong setting or size.
        BackendUnavailable: this library, or this machine, cannot build that.
        EngineError: the library refused a graph, or `source` has no engine that agrees in all except the weights.
        BundleError: a bundle is damaged; or, to strip or refit weights, it was exported by a version that did not
            record them, and onnx is not installed.
        MissingExtra: the library or Polygraphy is not installed.
        OutputError: the bundle cannot be written.
    """
    source = None if source is None else Path(source)
    if source is not None:
        if settings.backend == "tensorrt-rtx":
            raise BackendUnavailable(
                "--engines-from: engines of tensorrt-rtx 1.7.1 take no other weights; build them for each bundle, or "
                "with --backend tensorrt"
            )
        settings = replace(settings, refit=True)
    settings = settings.checked()
    manifest = Manifest.open(Path(bundle))
    version = library_version(settings.backend)
    orders = engine_orders(manifest, settings, version, settings.targets or (_own_capability(),))

    def share(index: int) -> BuildProgress:
        def report(done: int, total: int) -> None:
            if progress is not None:
                progress(round((index + done / total) * _STEPS), len(orders) * _STEPS)

        return report

    return tuple(_have(manifest.folder, order, settings, share(index), source) for index, order in enumerate(orders))


def _own_capability() -> str:
    if not has_nvidia_driver():
        raise BackendUnavailable(
            "--backend tensorrt builds on the GPU that it builds for, and no NVIDIA driver answers on this machine: "
            "build there, or use --backend tensorrt-rtx"
        )
    return compute_capability()


def _have(
    folder: Path, order: EngineOrder, settings: BuildSettings, progress: BuildProgress, source: Path | None
) -> BuiltEngine:
    # Another process that wants the same engine waits, and then finds it. The lock is in the bundle's own folder, which
    # exists before the first engine.
    with locked(folder / Path(order.file).name):
        return _found_or_made(Manifest.open(folder), order, settings, progress, source)


def _found_or_made(
    manifest: Manifest, order: EngineOrder, settings: BuildSettings, progress: BuildProgress, source: Path | None
) -> BuiltEngine:
    for record in manifest.engines:
        if record.key == order.key and record.graph == order.graph.file:
            try:
                record.check_file(manifest.folder)
            except EngineError:
                break  # missing or damaged: build it again
            return BuiltEngine(record, fresh=False)
    if source is not None:
        record = taken_engine(order, manifest.folder, source)
        progress(1, 1)
    else:
        record = _build(manifest, order, settings, progress)
    _enter(manifest.folder, record)
    return BuiltEngine(record, fresh=source is None, taken=source is not None)


def _build(manifest: Manifest, order: EngineOrder, settings: BuildSettings, progress: BuildProgress) -> EngineRecord:
    graph, name = order.graph, order.file
    path = manifest.path_of(name)
    had_folder = path.parent.is_dir()
    weights = weight_bytes(manifest, graph) if settings.refit or settings.strip_weights else {}
    call: dict[str, Any] = {
        "backend": settings.backend,
        "library": LIBRARIES[settings.backend],
        "graph": str(manifest.engine_path(graph, graph.file)),
        "log": _log_file(name),
        "profiles": [profile.to_json() for profile in order.profiles],
        "compute_capabilities": list(order.targets),
        "exchanged": list(weights) if settings.refit else [],
        "settings": order.settings,
        "timing_cache": _timing_cache(settings, order),
    }
    try:
        with translated_errors(path):
            path.parent.mkdir(exist_ok=True)
        with partial_output(path, overwrite=True) as partial, translated_errors(path):
            answer = run_worker(call | {"output": str(partial)}, progress)
            size, digest = partial.stat().st_size, sha256_of(partial)
    except BaseException:
        if not had_folder and path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()
        raise
    return EngineRecord(
        component=graph.component,
        causal=graph.causal,
        dtype=graph.dtype,
        backend=settings.backend,
        graph=graph.file,
        graph_sha256=order.graph_sha256,
        weights_sha256=order.weights_sha256,
        library_version=answer["library_version"],
        compute_capabilities=order.targets,
        profiles=order.profiles,
        settings=order.settings,
        key=order.key,
        file=name,
        bytes=size,
        sha256=digest,
        activation_bytes=answer["activation_bytes"],
        stripped_bytes=sum(weights.values()) if settings.strip_weights else 0,
        kind=graph.kind,
        built={
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **{name: answer[name] for name in ("parse_seconds", "build_seconds", "peak_bytes")},
        },
    )


def _log_file(name: str) -> str:
    """The file for the messages of the library: in the cache folder, or else in the folder for temporary files."""
    stem = Path(name).stem
    try:
        return str(cache_folder("logs") / f"{stem}.log")
    except OSError as error:
        _log.info("the messages of the build are not in the cache folder: %s", error)
    try:
        descriptor, path = tempfile.mkstemp(prefix="latentrt-", suffix=".log")
    except OSError:  # a container without any folder for temporary files
        return os.devnull
    os.close(descriptor)
    return path


def _timing_cache(settings: BuildSettings, order: EngineOrder) -> str | None:
    if settings.backend == "tensorrt-rtx" or settings.timing_cache is False:
        return None
    name = "".join(
        sign if sign.isalnum() else "-" for sign in gpu_name()
    )  # times belong to a GPU's model, not to a compute capability
    try:
        return str(cache_folder("timing") / f"tensorrt-{order.version}-{name}-sm{order.targets[0]}.cache")
    except OSError as error:
        _log.info("the times of the build are not kept: %s", error)
        return None


def _enter(folder: Path, record: EngineRecord) -> None:
    """Add a record to the manifest as it is now."""
    Manifest.update(folder, lambda manifest: _with(manifest, record))


def _with(manifest: Manifest, record: EngineRecord) -> Manifest:
    """The manifest with that record, without engines of an earlier state of the same graph."""
    hashes = {file.name: file.sha256 for file in manifest.files}
    weights = next(hashes[graph.weights] for graph in manifest.every_graph if graph.file == record.graph)
    kept = []
    for other in manifest.engines:
        if other.file == record.file:
            continue
        if other.graph == record.graph and not other.is_of(hashes[record.graph], weights):
            manifest.path_of(other.file).unlink(missing_ok=True)
            continue
        kept.append(other)
    return replace(manifest, engines=(*kept, record))
