"""Building the engines of a bundle: what is there and right is kept, what is missing or stale is built."""

import datetime
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...runtime.added_outputs import added_outputs
from ...runtime.backends import graphs_of
from ...runtime.backends.devices import compute_capability, has_nvidia_driver
from ...runtime.cache_folder import cache_folder
from ...runtime.config import AutoencoderKLLTX2VideoConfig
from ...runtime.engines import EngineRecord, engine_key
from ...runtime.errors import BackendUnavailable, EngineError, InputError
from ...runtime.hashing import sha256_of
from ...runtime.manifest import Graph, Manifest
from ...runtime.partial_output import translated_errors
from ...runtime.profiles import Profile
from .planning import plan_profiles
from .process import library_version, run_worker
from .segment_profiles import segment_profiles
from .settings import LIBRARIES, BuildSettings
from .stream_profiles import stream_profiles

__all__ = ["BuiltEngine", "build_engines"]

FOLDER = "engines"
_STEPS = 1000
Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all), over all engines of a call."""


@dataclass(frozen=True)
class BuiltEngine:
    """An engine of the bundle; `fresh` says whether it was built now or was there already."""

    record: EngineRecord
    fresh: bool


@dataclass(frozen=True)
class _Order:
    """One engine to have, and the name that follows from everything that goes into it."""

    graph: Graph
    profiles: tuple[Profile, ...]
    targets: tuple[str, ...]
    version: str
    graph_sha256: str
    weights_sha256: str
    key: str

    def file(self, backend: str) -> str:
        return f"{FOLDER}/{self.graph.file.removesuffix('.onnx')}.{backend}.{self.key}.engine"


def build_engines(bundle: Path, settings: BuildSettings, progress: Progress | None = None) -> tuple[BuiltEngine, ...]:
    """Build an engine for every graph of the chosen components and precisions, those of streams and of exact strips
    where the settings ask for them, and record each in the manifest as soon as it is there. With nothing changed since
    the last time nothing is done.

    Raises:
        InputError: a wrong setting or size. BackendUnavailable: this library, or this machine, cannot build that.
        EngineError: the library refused a graph. BundleError: the bundle is damaged. OutputError: it cannot be written.
    """
    settings = settings.checked()
    manifest = Manifest.open(bundle)
    version = library_version(settings.backend)
    targets = settings.targets or (_own_capability(),)
    whole = [graph for dtype in settings.dtypes for graph in graphs_of(manifest, dtype)]
    graphs = [*whole, *_parts(manifest, settings)]
    orders = [
        _ordered(manifest, graph, settings, version, targets)
        for graph in graphs
        if graph.component in settings.components
    ]
    if not orders:
        raise InputError(
            f"{bundle} holds none of {', '.join(settings.components)}: it holds {', '.join(manifest.components)}"
        )

    def told(index: int) -> Progress:
        def tell(done: int, total: int) -> None:
            if progress is not None:
                progress(round((index + done / total) * _STEPS), len(orders) * _STEPS)

        return tell

    return tuple(_have(manifest, order, settings, told(index)) for index, order in enumerate(orders))


def _parts(manifest: Manifest, settings: BuildSettings) -> list[Graph]:
    """The graphs of streams and the steps of exact strips, as far as they are asked for."""
    own = "video" if isinstance(manifest.config, AutoencoderKLLTX2VideoConfig) else "image"
    kinds = (
        ("--stream", settings.stream, manifest.streams, "streaming graphs", "video"),
        ("--exact-tiles", settings.exact, manifest.segments, "steps for exact strips", "image"),
    )
    found: list[Graph] = []
    for option, asked, graphs, what, family in kinds:
        for dtype in settings.dtypes if asked else ():
            held = [graph for graph in graphs if graph.dtype == dtype]
            if not held:
                again = f"export it again with --dtype {dtype} {option}"
                cure = again if family == own else f"they are for {family} models"
                raise InputError(f"{option}: {manifest.folder} holds no {dtype} {what}; {cure}")
            found += held
    return found


def _own_capability() -> str:
    if not has_nvidia_driver():
        raise BackendUnavailable(
            "--backend tensorrt builds on the GPU that it builds for, and no NVIDIA driver answers on this machine: "
            "build there, or use --backend tensorrt-rtx"
        )
    return compute_capability()


def _ordered(
    manifest: Manifest, graph: Graph, settings: BuildSettings, version: str, targets: tuple[str, ...]
) -> _Order:
    for name in (graph.file, graph.weights):  # by content, not by what the manifest says of it
        manifest.verify_hash(name)
    hashes = {file.name: file.sha256 for file in manifest.files}
    profiles = _profiles(manifest, graph, settings)
    key = engine_key(
        backend=settings.backend,
        library_version=version,
        dtype=graph.dtype,
        graph_sha256=hashes[graph.file],
        weights_sha256=hashes[graph.weights],
        compute_capabilities=targets,
        profiles=profiles,
        settings=_flags(manifest, graph, settings),
    )
    return _Order(graph, profiles, targets, version, hashes[graph.file], hashes[graph.weights], key)


def _profiles(manifest: Manifest, graph: Graph, settings: BuildSettings) -> tuple[Profile, ...]:
    config = manifest.config
    if graph.stage is not None:
        assert isinstance(config, AutoencoderKLLTX2VideoConfig)
        return stream_profiles(config, graph, manifest.find_streams(graph.component, graph.dtype), settings)
    if graph.segment is not None:
        return segment_profiles(config, graph, settings)
    return plan_profiles(config, graph, settings)


def _flags(manifest: Manifest, graph: Graph, settings: BuildSettings) -> dict[str, Any]:
    """What goes into an engine beside its graph, profiles and capabilities."""
    return settings.flags() | {"adds": list(added_outputs(manifest, graph))}


def _have(manifest: Manifest, order: _Order, settings: BuildSettings, progress: Progress) -> BuiltEngine:
    for record in manifest.engines:
        if record.key == order.key and record.graph == order.graph.file:
            try:
                record.check_file(manifest.folder)
            except EngineError:
                break  # missing or damaged: it is built again
            return BuiltEngine(record, fresh=False)
    record = _build(manifest, order, settings, progress)
    _enter(manifest.folder, record)
    return BuiltEngine(record, fresh=True)


def _build(manifest: Manifest, order: _Order, settings: BuildSettings, progress: Progress) -> EngineRecord:
    graph, name = order.graph, order.file(settings.backend)
    path = manifest.path_of(name)
    had_folder = path.parent.is_dir()
    log = cache_folder("logs") / f"{Path(name).stem}.log"
    partial = path.with_name(f".{path.name}.{os.urandom(4).hex()}.partial")
    call: dict[str, Any] = {
        "backend": settings.backend,
        "library": LIBRARIES[settings.backend],
        "graph": str(manifest.path_of(graph.file)),
        "output": str(partial),
        "log": str(log),
        "profiles": [profile.to_json() for profile in order.profiles],
        "compute_capabilities": list(order.targets),
        "adds": added_outputs(manifest, graph),
        "settings": settings.flags(),
        "timing_cache": _timing_cache(settings, order),
    }
    try:
        with translated_errors(path):
            path.parent.mkdir(exist_ok=True)
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
        settings=_flags(manifest, graph, settings),
        key=order.key,
        file=name,
        bytes=size,
        sha256=digest,
        activation_bytes=answer["activation_bytes"],
        kind=graph.kind,
        built={
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **{name: answer[name] for name in ("parse_seconds", "build_seconds", "peak_bytes")},
        },
    )


def _timing_cache(settings: BuildSettings, order: _Order) -> str | None:
    if settings.backend == "tensorrt-rtx" or settings.timing_cache is False:
        return None
    return str(cache_folder("timing") / f"tensorrt-{order.version}-sm{order.targets[0]}.cache")


def _enter(folder: Path, record: EngineRecord) -> None:
    """Add a record to the manifest as it is now; records of the same graph as it was before are of no use any more."""
    manifest = Manifest.open(folder)
    kept = []
    for other in manifest.engines:
        if other.file == record.file:
            continue
        origin = (other.graph_sha256, other.weights_sha256)
        if other.graph == record.graph and origin != (record.graph_sha256, record.weights_sha256):
            manifest.path_of(other.file).unlink(missing_ok=True)
            continue
        kept.append(other)
    replace(manifest, engines=(*kept, record)).write()
