"""Orders of engines: one for each graph, named after everything that goes into its engine."""

from dataclasses import dataclass
from typing import Any

from ...runtime.backends.choose import graphs_of
from ...runtime.bundle.added_outputs import added_outputs
from ...runtime.bundle.engine_records import engine_key
from ...runtime.bundle.graph import Graph
from ...runtime.bundle.manifest import Manifest
from ...runtime.bundle.profiles import Profile
from ...runtime.errors import InputError
from .planning import plan_profiles
from .settings import BuildSettings
from .stream_profiles import stream_profiles
from .strip_profiles import strip_profiles

__all__ = ["EngineOrder", "engine_orders"]

_FOLDER = "engines"


@dataclass(frozen=True)
class EngineOrder:
    """One engine that a bundle shall have.

    Attributes:
        graph: the graph to build.
        backend: "tensorrt" or "tensorrt-rtx".
        profiles: the sizes that the engine takes.
        targets: the compute capabilities to build for.
        version: the version of the library.
        graph_sha256: the hash of the graph file.
        weights_sha256: the hash of the weights file.
        settings: the other settings that change the engine's content.
    """

    graph: Graph
    backend: str
    profiles: tuple[Profile, ...]
    targets: tuple[str, ...]
    version: str
    graph_sha256: str
    weights_sha256: str
    settings: dict[str, Any]

    @property
    def key(self) -> str:
        return engine_key(
            backend=self.backend,
            library_version=self.version,
            dtype=self.graph.dtype,
            graph_sha256=self.graph_sha256,
            weights_sha256=self.weights_sha256,
            compute_capabilities=self.targets,
            profiles=self.profiles,
            settings=self.settings,
        )

    @property
    def file(self) -> str:
        return f"{_FOLDER}/{self.graph.file.removesuffix('.onnx')}.{self.backend}.{self.key}.engine"


def engine_orders(
    manifest: Manifest, settings: BuildSettings, version: str, targets: tuple[str, ...]
) -> tuple[EngineOrder, ...]:
    """One order for every graph of the chosen components and precisions.

    The graphs of streams and of strips are included if the settings ask for them.

    Raises:
        InputError: a wrong size, or nothing to build. BundleError: a graph or weights were altered.
    """
    if not (settings.whole or settings.stream or settings.exact):
        raise InputError("whole=False leaves nothing to build: ask for stream or exact")
    whole = [graph for dtype in settings.dtypes for graph in graphs_of(manifest, dtype)]
    asked = (*(whole if settings.whole else ()), *_parts(manifest, settings))
    graphs = [graph for graph in asked if graph.component in settings.components]
    if not graphs:
        raise InputError(
            f"{manifest.folder} holds none of {', '.join(settings.components)}: "
            f"it holds {', '.join(manifest.components)}"
        )
    return tuple(_ordered(manifest, graph, settings, version, targets) for graph in graphs)


def _parts(manifest: Manifest, settings: BuildSettings) -> list[Graph]:
    """The graphs of streams and of strips that the settings ask for. Clips run in strips in the graphs of streams."""
    config = manifest.config
    strips, streams = manifest.strip_graphs, manifest.streams
    if config.supports_streams:
        strips = tuple(graph for graph in streams if graph.halo is not None)
    cuts = settings.exact and not (settings.stream and config.supports_streams)
    may_cut = config.supports_strips or config.supports_streams
    kinds = (
        ("--stream", settings.stream, streams, "streaming graphs", config.supports_streams, "video"),
        ("--strips", cuts, strips, "graphs that run in strips", may_cut, "other"),
    )
    found: list[Graph] = []
    for option, asked, graphs, what, supported, others in kinds:
        for dtype in settings.dtypes if asked else ():
            held = [graph for graph in graphs if graph.dtype == dtype]
            if not held:
                again = f"export it again with --dtype {dtype} {option}"
                cure = again if supported else f"they are for {others} models"
                raise InputError(f"{option}: {manifest.folder} holds no {dtype} {what}; {cure}")
            found += held
    return found


def _ordered(
    manifest: Manifest, graph: Graph, settings: BuildSettings, version: str, targets: tuple[str, ...]
) -> EngineOrder:
    manifest.check_rules()
    for name in (graph.file, graph.weights):  # the content of the files, not the manifest's entry
        manifest.verify_hash(name)
    manifest.check_graph(graph, graph.file)  # before the library's parser reads it
    hashes = {file.name: file.sha256 for file in manifest.files}
    return EngineOrder(
        graph=graph,
        backend=settings.backend,
        profiles=_profiles(manifest, graph, settings),
        targets=targets,
        version=version,
        graph_sha256=hashes[graph.file],
        weights_sha256=hashes[graph.weights],
        settings=settings.flags() | {"adds": list(added_outputs(manifest, graph))},
    )


def _profiles(manifest: Manifest, graph: Graph, settings: BuildSettings) -> tuple[Profile, ...]:
    config = manifest.config
    if graph.stage is not None:
        return stream_profiles(config, graph, settings)
    if graph.strip_stage is not None:
        return strip_profiles(config, graph, settings)
    return plan_profiles(config, graph, settings)
