"""Building the engines of a bundle: what is there and right is kept, what is missing or stale is built."""

import datetime
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...runtime.backends.cuda.devices import compute_capability, gpu_name, has_nvidia_driver
from ...runtime.bundle.engine_records import EngineRecord
from ...runtime.bundle.manifest import Manifest
from ...runtime.errors import BackendUnavailable, EngineError
from ...runtime.system.cache_folder import cache_folder
from ...runtime.system.file_lock import locked
from ...runtime.system.hashing import sha256_of
from ...runtime.system.partial_output import translated_errors
from .order import EngineOrder, engine_orders
from .process import library_version, run_worker
from .settings import LIBRARIES, BuildSettings
from .sharing import taken_engine
from .stored_weights import stored_weights

__all__ = ["BuiltEngine", "build_engines"]

_STEPS = 1000
Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all), over all engines of a call."""


@dataclass(frozen=True)
class BuiltEngine:
    """An engine of the bundle; `fresh` says whether it was built now or was there already, and `taken` whether it came
    from another bundle now."""

    record: EngineRecord
    fresh: bool
    taken: bool = False


def build_engines(
    bundle: Path, settings: BuildSettings, progress: Progress | None = None, source: Path | None = None
) -> tuple[BuiltEngine, ...]:
    """Have an engine for every graph of the chosen components and precisions, those of streams and of exact strips
    where the settings ask for them, and record each in the manifest as soon as it is there. With nothing changed since
    the last time nothing is done. What is missing is built, or, with the bundle `source`, taken from there: engines
    that take other weights (`refit` is set by that).

    Raises:
        InputError: a wrong setting or size. BackendUnavailable: this library, or this machine, cannot build that.
        EngineError: the library refused a graph, or `source` has no engine that agrees in everything but the weights.
        BundleError: a bundle is damaged. OutputError: it cannot be written.
    """
    if source is not None:
        if settings.backend == "tensorrt-rtx":
            raise BackendUnavailable(
                "--engines-from: engines of tensorrt-rtx 1.7.1 take no other weights; build them for each bundle, or "
                "with --backend tensorrt"
            )
        settings = replace(settings, refit=True)
    settings = settings.checked()
    manifest = Manifest.open(bundle)
    version = library_version(settings.backend)
    orders = engine_orders(manifest, settings, version, settings.targets or (_own_capability(),))

    def told(index: int) -> Progress:
        def tell(done: int, total: int) -> None:
            if progress is not None:
                progress(round((index + done / total) * _STEPS), len(orders) * _STEPS)

        return tell

    return tuple(_have(manifest.folder, order, settings, told(index), source) for index, order in enumerate(orders))


def _own_capability() -> str:
    if not has_nvidia_driver():
        raise BackendUnavailable(
            "--backend tensorrt builds on the GPU that it builds for, and no NVIDIA driver answers on this machine: "
            "build there, or use --backend tensorrt-rtx"
        )
    return compute_capability()


def _have(
    folder: Path, order: EngineOrder, settings: BuildSettings, progress: Progress, source: Path | None
) -> BuiltEngine:
    with locked(folder / order.file):  # who wants the same one meanwhile finds it afterwards
        return _found_or_made(Manifest.open(folder), order, settings, progress, source)


def _found_or_made(
    manifest: Manifest, order: EngineOrder, settings: BuildSettings, progress: Progress, source: Path | None
) -> BuiltEngine:
    for record in manifest.engines:
        if record.key == order.key and record.graph == order.graph.file:
            try:
                record.check_file(manifest.folder)
            except EngineError:
                break  # missing or damaged: it is built again
            return BuiltEngine(record, fresh=False)
    if source is not None:
        record = taken_engine(order, manifest.folder, source)
        progress(1, 1)
    else:
        record = _build(manifest, order, settings, progress)
    _enter(manifest.folder, record)
    return BuiltEngine(record, fresh=source is None, taken=source is not None)


def _build(manifest: Manifest, order: EngineOrder, settings: BuildSettings, progress: Progress) -> EngineRecord:
    graph, name = order.graph, order.file
    path = manifest.path_of(name)
    had_folder = path.parent.is_dir()
    log = cache_folder("logs") / f"{Path(name).stem}.log"
    weights = stored_weights(manifest.path_of(graph.file))
    partial = path.with_name(f".{path.name}.{os.urandom(4).hex()}.partial")
    call: dict[str, Any] = {
        "backend": settings.backend,
        "library": LIBRARIES[settings.backend],
        "graph": str(manifest.path_of(graph.file)),
        "output": str(partial),
        "log": str(log),
        "profiles": [profile.to_json() for profile in order.profiles],
        "compute_capabilities": list(order.targets),
        "exchanged": list(weights) if settings.refit else [],
        "settings": order.settings,
        "timing_cache": _timing_cache(settings, order),
    }
    try:
        with translated_errors(path):
            path.parent.mkdir(exist_ok=True)
            for left in path.parent.glob(f".{path.name}.*.partial"):
                left.unlink()  # of a process that was killed: another one would hold the lock
            answer = run_worker(call, progress)
            size, digest = partial.stat().st_size, sha256_of(partial)
            partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
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


def _timing_cache(settings: BuildSettings, order: EngineOrder) -> str | None:
    if settings.backend == "tensorrt-rtx" or settings.timing_cache is False:
        return None
    name = "".join(sign if sign.isalnum() else "-" for sign in gpu_name())  # times are a model's, not a capability's
    return str(cache_folder("timing") / f"tensorrt-{order.version}-{name}-sm{order.targets[0]}.cache")


def _enter(folder: Path, record: EngineRecord) -> None:
    """Add a record to the manifest as it is now."""
    Manifest.update(folder, lambda manifest: _with(manifest, record))


def _with(manifest: Manifest, record: EngineRecord) -> Manifest:
    """The manifest with that record; records of the same graph as it was before are of no use any more."""
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
