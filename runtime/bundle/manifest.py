"""The bundle's manifest: what is in the folder, as frozen values, with checks that fail closed.

A bundle is a folder with `manifest.json`, graphs and weights. The manifest is written last and the folder is renamed
into place, so a bundle is whole or absent. Opening checks schema, paths and sizes; `verify_hashes` reads every byte.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ...tiling.plain_text import shown
from ..config.families import config_from_dict
from ..config.model_config import ModelConfig
from ..errors import BundleError, ConfigError
from ..system.hashing import sha256_of
from .engine_records import EngineRecord
from .folder_check import check_files, resolved_folder
from .graph import FileEntry, Graph
from .graph_contents import check_graph_file
from .graph_json import GraphLists, check_chains, read_components, write_components
from .latent_statistics import STATISTICS, check_statistics, latent_statistics
from .not_a_bundle import MANIFEST_NAME

if TYPE_CHECKING:
    from .graph_cost import GraphCost
    from .source_record import SourceRecord
    from .verification_record import VerificationRecord

__all__ = ["MANIFEST_NAME", "Manifest"]


@dataclass(frozen=True)
class Manifest:
    """Everything a runtime needs to know about a bundle.

    Attributes:
        config: the model's config.
        graphs: the graphs that run a whole sample at once.
        files: every graph and weights file.
        produced_by: the versions and settings of the export.
        engines: the records of the engines in the bundle.
        verifications: the last record of `latentrt verify` for each backend and precision.
        ranges: the report of the range check, in its JSON form, or None.
        source: the checkpoint of the export, or None for bundles of earlier versions.
        streams: the graphs that run a clip chunk by chunk.
        strip_graphs: the graphs that run a picture in strips, in their order.
        weight_bytes: by graph file, the bytes of each initializer whose values lie in the weights file. It is empty for
            bundles of earlier versions.
        costs: by file of a float32 graph, what one run takes, as formulas. It is empty for bundles of earlier versions.
        stored_statistics: the family and the statistics that the file holds next to the config. They are written anew.
        samples: the file of golden samples, or None. Bundles of earlier versions have none.
        folder: where the bundle was opened. It is not stored.
    """

    config: ModelConfig
    graphs: tuple[Graph, ...]
    files: tuple[FileEntry, ...]
    produced_by: Mapping[str, Any]
    engines: tuple[EngineRecord, ...] = ()
    verifications: "tuple[VerificationRecord, ...]" = ()
    ranges: Mapping[str, Any] | None = None
    source: "SourceRecord | None" = None
    streams: tuple[Graph, ...] = ()
    strip_graphs: tuple[Graph, ...] = ()
    weight_bytes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    costs: Mapping[str, "GraphCost"] = field(default_factory=dict)
    stored_statistics: Mapping[str, Any] = field(default_factory=dict, compare=False)
    samples: str | None = None
    folder: Path = field(default=Path(), compare=False)

    def __repr__(self) -> str:
        dtypes = ", ".join(dict.fromkeys(graph.dtype for graph in self.graphs))
        return f"<Manifest {str(self.folder)!r}: {self.family}, {' and '.join(self.components)}, {dtypes}>"

    @property
    def family(self) -> str:
        return self.config.family

    @property
    def every_graph(self) -> tuple[Graph, ...]:
        """The graphs of every kind."""
        return self._lists.every

    @property
    def _lists(self) -> GraphLists:
        return GraphLists(self.graphs, self.streams, self.strip_graphs)

    @property
    def components(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(graph.component for graph in self.graphs))

    def find_graphs(self, component: str) -> tuple[Graph, ...]:
        """The component's graphs that run a whole sample, the config's own causality first.

        Raises:
            BundleError: the bundle was exported without that component.
        """
        found = tuple(graph for graph in self.graphs if graph.component == component)
        if not found:
            raise BundleError(
                f"{self.folder} holds no {component} (it holds {', '.join(self.components)}): "
                f"export it again with --component {component}"
            )
        return found

    def find_streams(self, component: str, dtype: str | None = None) -> tuple[Graph, ...]:
        """The component's streaming graphs in the order in which they run; () if there are none. `dtype` None takes the
        first precision: the graphs of all precisions are cut alike."""
        found = _of_precision(self.streams, component, dtype)
        return tuple(sorted(found, key=lambda graph: graph.stage.index if graph.stage is not None else 0))

    def find_strip_graphs(self, component: str, dtype: str | None = None) -> tuple[Graph, ...]:
        """The component's graphs for strips in the order in which they run; () if there are none. `dtype` as for
        `find_streams`."""
        return _of_precision(self.strip_graphs, component, dtype)

    def path_of(self, name: str) -> Path:
        return self.folder / name

    def engine_path(self, graph: Graph, file: str) -> Path:
        """The path of a graph's `file` or `cpu_file` that an engine can open (see `linked_files`).

        Raises:
            BundleError: a file was altered.
        """
        from .linked_files import engine_path  # imported here: it is needed when an engine opens

        hashes = {entry.name: entry.sha256 for entry in self.files}
        paths = self.path_of(file), self.path_of(graph.weights)
        return engine_path(*paths, hashes[file], hashes[graph.weights])

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read and check a bundle's manifest. The path of the folder is resolved, so that a later change of the working
        directory or of a link leads to no other bundle.

        Raises:
            BundleError: no bundle there, a schema that is not read, or files that are missing, of another size, or
                outside.
        """
        from .manifest_file import damaged, read_manifest, wrong_field  # imported here: until then, nothing is read

        given, folder = folder, resolved_folder(folder)
        path = folder / MANIFEST_NAME
        values = read_manifest(given, folder)
        try:
            manifest = cls._from_json(values, folder)
        except ConfigError as error:
            raise BundleError(f"{path}: {error}") from error
        except ValueError as error:
            raise damaged(path, error) from error
        except (KeyError, TypeError, AttributeError, OverflowError, IndexError, RecursionError) as error:
            raise wrong_field(path, error) from error
        check_files(folder, manifest.files, [record.file for record in manifest.engines])
        return manifest

    @classmethod
    def _from_json(cls, values: Mapping[str, Any], folder: Path) -> Self:
        from .graph_cost import read_costs  # imported here: `import latentrt.runtime` does without
        from .source_record import SourceRecord
        from .verification_record import read_verifications

        lists = read_components(values["components"])
        files = tuple(FileEntry.from_json(entry) for entry in values["files"])
        listed = {file.name for file in files}
        if len(listed) != len(files):
            raise ValueError("a file is listed twice")
        for graph in lists.every:
            if not {graph.file, graph.weights, graph.cpu_file or graph.file} <= listed:
                raise ValueError(f"graph file {shown(graph.file)} or its weights are not among the files")
        check_chains(lists)
        return cls(
            config=config_from_dict(values["config"]),
            graphs=lists.graphs,
            files=files,
            produced_by=dict(values["produced_by"]),
            engines=tuple(map(EngineRecord.from_json, values.get("engines") or ())),
            verifications=read_verifications(values),
            ranges=_report(values.get("ranges")),
            source=SourceRecord.from_json(values["source"]) if values.get("source") is not None else None,
            streams=lists.streams,
            strip_graphs=lists.strip_graphs,
            weight_bytes=_weight_bytes(values.get("weight_bytes") or {}),
            costs=read_costs(values.get("costs") or {}),
            stored_statistics={key: values[key] for key in STATISTICS if key in values},
            samples=_samples(values.get("samples"), listed),
            folder=folder,
        )

    def to_json(self) -> dict[str, Any]:
        from .graph_cost import write_costs
        from .schemas import FIRST_READER, SCHEMA_VERSION

        config = self.config
        return {
            "schema_version": SCHEMA_VERSION,
            "first_reader": FIRST_READER,
            "family": self.family,
            "config": config.to_dict(),
            "latent_statistics": latent_statistics(config),
            "components": write_components(self.components, self._lists),
            "files": [dataclasses.asdict(file) for file in self.files],
            "engines": [record.to_json() for record in self.engines],
            "verifications": [record.to_json() for record in self.verifications],
            "ranges": self.ranges,
            "source": None if self.source is None else self.source.to_json(),
            "weight_bytes": {file: dict(weights) for file, weights in self.weight_bytes.items()},
            "costs": write_costs(self.costs),
            "samples": self.samples,
            "produced_by": dict(self.produced_by),
        }

    def write(self) -> None:
        """Write `manifest.json` into the folder, whole or not at all.

        Raises:
            OutputError: the folder cannot be written.
        """
        path = self.folder / MANIFEST_NAME
        from ..system.outputs.partial_output import partial_output, translated_errors

        with partial_output(path, overwrite=True) as partial, translated_errors(path):
            partial.write_text(json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def update(cls, folder: Path, change: Callable[[Self], Self]) -> None:
        """Replace a bundle's manifest by the result of `change`. Other processes that update it wait meanwhile, also
        in other containers.

        Raises:
            BundleError: the bundle is damaged. OutputError: the folder cannot be written.
        """
        from ..system.file_lock import locked

        with locked(folder / MANIFEST_NAME):
            change(cls.open(folder)).write()

    @property
    def digest(self) -> str:
        """The digest of config, graphs and weights (see `bundle_digest`): "sha256:..."."""
        from .digest import bundle_digest  # imported here because few callers need it

        return bundle_digest(self.to_json(), [(file.name, file.size_bytes, file.sha256) for file in self.files])

    def check_digest(self, digest: str) -> None:
        """Refuse a bundle that has another digest. The files are not read: the digest covers the hashes in the
        manifest, and `verify_hashes` compares these with the files.

        Raises:
            BundleError: the bundle has another digest. InputError: `digest` is no digest.
        """
        from .digest import checked_digest

        if checked_digest(digest) != self.digest:
            raise BundleError(
                f"{self.folder} has the digest {self.digest}, and {digest} was asked for: it is another bundle or was "
                f"altered; get the bundle that you want, or give the digest that `latentrt inspect` prints"
            )

    def check_rules(self) -> None:
        """Refuse a manifest whose parts contradict each other: graphs that do not fit the config, other graphs or the
        names of their files (see `graph_rules`), and latent statistics that are not those of the config.

        Raises:
            BundleError: they do, so the manifest is damaged.
        """
        from .graph_rules import check_graphs  # imported here: reports about a bundle do without
        from .manifest_file import damaged

        try:
            check_graphs(self.config, self._lists)
            check_statistics(self.config, self.stored_statistics)
        except ValueError as error:
            raise damaged(self.folder / MANIFEST_NAME, error) from error

    def check_graph(self, graph: Graph, file: str) -> None:
        """Refuse a graph's `file` or `cpu_file` that refers to anything but the graph's weights.

        Raises:
            BundleError: the file does so, or is damaged.
        """
        sizes = {entry.name: entry.size_bytes for entry in self.files}
        check_graph_file(self.path_of(file), graph.weights, sizes[graph.weights])

    def verify_hashes(self) -> None:
        """Read every file and compare its SHA-256, and check what the graphs refer to.

        Raises:
            BundleError: a file was altered, or a graph refers to anything but its weights.
        """
        self.check_rules()
        for entry in self.files:
            self.verify_hash(entry.name)
        for graph in self.every_graph:
            for file in filter(None, (graph.file, graph.cpu_file)):
                self.check_graph(graph, file)

    def verify_hash(self, name: str) -> None:
        """Compare the SHA-256 of one file.

        Raises:
            BundleError: the file was altered or is not the bundle's.
        """
        entry = next((file for file in self.files if file.name == name), None)
        if entry is None or sha256_of(self.path_of(name)) != entry.sha256:
            raise BundleError(f"{self.path_of(name)} was altered: its SHA-256 is not the manifest's; export again")


def _of_precision(graphs: Iterable[Graph], component: str, dtype: str | None) -> tuple[Graph, ...]:
    found = [graph for graph in graphs if graph.component == component]
    wanted = dtype or next((graph.dtype for graph in found), None)
    return tuple(graph for graph in found if graph.dtype == wanted)


def _report(value: Any) -> Mapping[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise ValueError("a report is no object")
    return value


def _samples(value: Any, listed: set[str]) -> str | None:
    if value is not None and (not isinstance(value, str) or value not in listed):
        raise ValueError("the golden samples are not among the files")
    return value


def _weight_bytes(values: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    found = {file: dict(weights) for file, weights in values.items()}
    if not all(type(size) is int and 0 <= size < 1 << 50 for weights in found.values() for size in weights.values()):
        raise ValueError("weight_bytes holds something else than whole numbers")
    return found
