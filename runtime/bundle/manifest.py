"""The bundle's manifest: what is in the folder, as frozen values, with checks that fail closed.

A bundle is a folder with `manifest.json` and, beside it, graphs and weights. The manifest is written last and the
folder renamed into place, so a bundle is whole or absent. Opening checks schema, paths and sizes; `verify_hashes`
reads every byte.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Self

from ...tiling.plain_text import shown
from ..config import ModelConfig, config_from_dict
from ..errors import BundleError, ConfigError
from ..system.file_lock import locked
from ..system.hashing import sha256_of
from ..system.json_file import read_json
from ..system.partial_output import is_partial
from .engine_records import EngineRecord
from .graph_contents import check_graph_file
from .profiles import EngineKind
from .strip_graph import Segment

__all__ = ["MANIFEST_NAME", "SCHEMA_VERSION", "Axis", "FileEntry", "Graph", "Manifest", "Stage", "TensorInfo"]

SCHEMA_VERSION = 2
MANIFEST_NAME = "manifest.json"
_MOST_CHARACTERS = 200  # of a file's name; file systems refuse names of more than 255 bytes
_MOST_BYTES = 8 << 20  # of manifest.json; that of a large bundle with its engines has less than 1 MB
_MOST_OF_A_STAGE = 10_000  # of any number of a streaming stage; those that export writes are below 100
Axis = int | str


@dataclass(frozen=True)
class TensorInfo:
    """A graph's input or output: name, dtype, and axes (a size, the name of a dynamic axis, or a multiple of one, as
    in "32*height")."""

    name: str
    dtype: str
    shape: tuple[Axis, ...]

    def shape_for(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape where the named axes have those sizes."""
        return tuple(axis if isinstance(axis, int) else _length(axis, sizes) for axis in self.shape)


@dataclass(frozen=True)
class Stage:
    """What a streaming graph is of its component: the `index`-th to run. Its first chunk needs `lead` frames (fewer
    only if it is also the last), and has one frame more than a multiple of `multiple`, where later chunks have one.
    `ratio`: frames of the clip per frame that goes in. A state may be written over by the next one: nothing reads it
    any more when that is made."""

    index: int
    lead: int
    multiple: int
    ratio: int

    def __post_init__(self) -> None:
        numbers = (self.index, self.lead, self.multiple, self.ratio)
        whole = all(type(number) is int and 0 <= number <= _MOST_OF_A_STAGE for number in numbers)
        if not whole or 0 in (self.multiple, self.ratio):
            raise ValueError(f"{self} is no stage of a stream")


@dataclass(frozen=True)
class Graph:
    """One ONNX file. `causal` is None for image models; `dtype` is the precision of the computation. `stage` is None
    for a graph that runs all at once, and `segment` for one that is no step of an exact pass. `cpu_file`: the
    same graph in the form that ONNX Runtime runs faster on a CPU, where that is another one."""

    component: str
    file: str
    weights: str
    dtype: str
    opset: int
    causal: bool | None
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    stage: Stage | None = None
    segment: Segment | None = None
    cpu_file: str | None = None

    @property
    def kind(self) -> EngineKind:
        """What it is for: the whole at once, a stream, or exact strips."""
        if self.stage is not None:
            return "stream"
        return "whole" if self.segment is None else "exact"


@dataclass(frozen=True)
class FileEntry:
    """A file of the bundle, by its name relative to the folder."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything a runtime needs to know about a bundle: `graphs` that run all at once, `streams` that run a clip
    chunk by chunk, and `segments`, the steps of an exact pass in their order. `weight_bytes` holds, by graph file, the
    bytes of each initializer whose values lie in the weights file; it is empty for bundles of earlier versions.
    `folder` is where it was opened, and is not stored."""

    config: ModelConfig
    graphs: tuple[Graph, ...]
    files: tuple[FileEntry, ...]
    produced_by: Mapping[str, Any]
    engines: tuple[EngineRecord, ...] = ()
    verification: Mapping[str, Any] | None = None
    ranges: Mapping[str, Any] | None = None
    streams: tuple[Graph, ...] = ()
    segments: tuple[Graph, ...] = ()
    weight_bytes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    folder: Path = field(default=Path(), compare=False)

    @property
    def family(self) -> str:
        return self.config.family

    @property
    def every_graph(self) -> tuple[Graph, ...]:
        """The graphs of every kind."""
        return (*self.graphs, *self.streams, *self.segments)

    @property
    def components(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(graph.component for graph in self.graphs))

    def find_graphs(self, component: str) -> tuple[Graph, ...]:
        """The component's graphs, the config's own causality first.

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
        """The component's streaming graphs of a precision (None: of the first that is there, since all are cut alike),
        in the order in which they run; () where there are none."""
        found = _of_precision(self.streams, component, dtype)
        return tuple(sorted(found, key=lambda graph: graph.stage.index if graph.stage is not None else 0))

    def find_strip_graphs(self, component: str, dtype: str | None = None) -> tuple[Graph, ...]:
        """The same of the component's steps of exact strips."""
        return _of_precision(self.segments, component, dtype)

    def path_of(self, name: str) -> Path:
        return self.folder / name

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read and check a bundle's manifest. The folder is resolved: a later change of the working directory, or of
        the links on the way, leads to no other bundle.

        Raises:
            BundleError: no bundle there, a newer schema, or files that are missing, of another size, or outside.
        """
        given, folder = folder, _resolved(folder)
        path = folder / MANIFEST_NAME
        if is_partial(folder):
            raise BundleError(
                f"{folder} is the rest of an interrupted export, not a bundle: delete it and export again"
            )
        try:
            values = read_json(path, _MOST_BYTES)
        except FileNotFoundError:
            reason = "it holds no manifest.json" if folder.is_dir() else "there is no such folder"
            raise BundleError(f"{given} is not a bundle: {reason}; make one with `latentrt export`") from None
        except OSError as error:
            raise BundleError(f"cannot read {path}: {error.strerror or error}") from error
        except ValueError as error:
            raise BundleError(f"{path} is not a manifest: {error}; export again") from error
        try:
            version = values["schema_version"]
        except (KeyError, TypeError) as error:
            raise BundleError(f"{path} is not a manifest: it is damaged or not LatentRT's; export again") from error
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"{folder} has manifest schema {shown(version)} and this version of latentrt reads {SCHEMA_VERSION}: "
                f"update latentrt, or export again"
            )
        try:
            manifest = cls._from_json(values, folder)
        except ConfigError as error:
            raise BundleError(f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise BundleError(f"{path} is damaged: a field is missing or of the wrong kind ({shown(error)})") from error
        manifest._check_files()
        return manifest

    @classmethod
    def _from_json(cls, values: Mapping[str, Any], folder: Path) -> Self:
        graphs, streams, segments = [], [], []
        for component, entry in values["components"].items():
            graphs += [_graph(component, graph) for graph in entry["graphs"]]
            streams += [_graph(component, graph) for graph in entry.get("streams") or ()]
            segments += [_graph(component, graph) for graph in entry.get("segments") or ()]
        files = tuple(FileEntry(str(f["name"]), int(f["size_bytes"]), str(f["sha256"])) for f in values["files"])
        listed = {file.name for file in files}
        if len(listed) != len(files):
            raise ValueError("a file is listed twice")
        for graph in (*graphs, *streams, *segments):
            if not {graph.file, graph.weights, graph.cpu_file or graph.file} <= listed:
                raise ValueError(f"graph file {shown(graph.file)} or its weights are not among the files")
        _check_chain(streams, [graph.stage.index if graph.stage else None for graph in streams])
        _check_chain(segments, [graph.segment.index if graph.segment else None for graph in segments], whole=False)
        return cls(
            config=config_from_dict(values["config"]),
            graphs=tuple(graphs),
            files=files,
            produced_by=dict(values["produced_by"]),
            engines=tuple(map(EngineRecord.from_json, values.get("engines") or ())),
            verification=values.get("verification"),
            ranges=values.get("ranges"),
            streams=tuple(streams),
            segments=tuple(segments),
            weight_bytes=_weight_bytes(values.get("weight_bytes") or {}),
            folder=folder,
        )

    def to_json(self) -> dict[str, Any]:
        config = self.config
        components: dict[str, Any] = {name: {"graphs": [], "streams": [], "segments": []} for name in self.components}
        for kind, graphs in (("graphs", self.graphs), ("streams", self.streams), ("segments", self.segments)):
            for graph in graphs:
                values = dataclasses.asdict(graph)
                components[values.pop("component")][kind].append(values)
        return {
            "schema_version": SCHEMA_VERSION,
            "family": self.family,
            "config": config.to_dict(),
            "latent_statistics": {
                "scaling_factor": config.scaling_factor,
                "shift_factor": getattr(config, "shift_factor", None),
                "latents_mean": config.latents_mean,
                "latents_std": config.latents_std,
            },
            "components": components,
            "files": [dataclasses.asdict(file) for file in self.files],
            "engines": [record.to_json() for record in self.engines],
            "verification": self.verification,
            "ranges": self.ranges,
            "weight_bytes": {file: dict(weights) for file, weights in self.weight_bytes.items()},
            "produced_by": dict(self.produced_by),
        }

    def write(self) -> None:
        """Write `manifest.json` into the folder, whole or not at all.

        Raises:
            OSError: the folder cannot be written.
        """
        path = self.folder / MANIFEST_NAME
        temporary = path.with_name(f".{MANIFEST_NAME}.{os.getpid()}")
        try:
            temporary.write_text(json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def update(cls, folder: Path, change: Callable[[Self], Self]) -> None:
        """Write what `change` makes of a bundle's manifest as it is now; other processes that do so wait meanwhile.

        Raises:
            BundleError: the bundle is damaged. OSError: the folder cannot be written.
        """
        with locked(folder):
            change(cls.open(folder)).write()

    @property
    def digest(self) -> str:
        """What `bundle_digest` makes of config, graphs and weights: "sha256:..."."""
        from .digest import bundle_digest  # here: only some callers ask for it

        return bundle_digest(self.to_json(), [(file.name, file.size_bytes, file.sha256) for file in self.files])

    def check_digest(self, digest: str) -> None:
        """Refuse a bundle that is not the one with this digest. The files are not read: their hashes are in the
        manifest, and comparing them is `verify_hashes`.

        Raises:
            BundleError: it is another bundle. InputError: that is no digest.
        """
        from .digest import checked_digest

        if checked_digest(digest) != self.digest:
            raise BundleError(
                f"{self.folder} has the digest {self.digest}, and {digest} was asked for: it is another bundle or was "
                f"altered; get the one that you want, or give the digest that `latentrt inspect` prints"
            )

    def check_graph(self, graph: Graph, file: str) -> None:
        """Refuse a graph's `file` or `cpu_file` that refers to anything but the graph's weights.

        Raises:
            BundleError: it does, or it is damaged.
        """
        sizes = {entry.name: entry.size_bytes for entry in self.files}
        check_graph_file(self.path_of(file), graph.weights, sizes[graph.weights])

    def verify_hashes(self) -> None:
        """Read every file and compare its SHA-256, and check what the graphs refer to.

        Raises:
            BundleError: a file was altered, or a graph refers to anything but its weights.
        """
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

    def _check_files(self) -> None:
        for record in self.engines:  # their sizes and hashes are looked at when one is loaded
            self._check_inside(record.file)
        for entry in self.files:
            self._check_inside(entry.name)
            path = self.path_of(entry.name)
            if not path.is_file():
                raise BundleError(f"{self.folder} is incomplete: {entry.name} is missing; export again")
            size = path.stat().st_size
            if size != entry.size_bytes:
                raise BundleError(
                    f"{path} has {size} bytes and the manifest says {entry.size_bytes}: it is truncated or altered; "
                    f"export again"
                )

    def _check_inside(self, name: str) -> None:
        if not name.isprintable() or len(name) > _MOST_CHARACTERS:
            raise BundleError(f"{self.folder}: the manifest names {shown(name)}, which is no name of a file; refused")
        relative = PurePosixPath(name)
        outside = relative.is_absolute() or ".." in relative.parts or not name or any(sign in name for sign in "\\:\0")
        if not outside:
            try:
                outside = not self.path_of(name).resolve().is_relative_to(self.folder.resolve())
            except (OSError, RuntimeError):  # a link to itself: RuntimeError before Python 3.13
                outside = True
        if outside:
            raise BundleError(
                f"{self.folder}: the manifest names {shown(name)}, which lies outside the bundle; refused"
            )


def _resolved(folder: Path) -> Path:
    """The folder's absolute path without links, "~" expanded."""
    try:
        home = folder.parts[:1] and folder.parts[0].startswith("~") and not folder.exists()
        return (folder.expanduser() if home else folder).resolve()
    except (OSError, RuntimeError):  # no such user, or a link to itself: reading the manifest says why
        return folder.absolute()


def _of_precision(graphs: Iterable[Graph], component: str, dtype: str | None) -> tuple[Graph, ...]:
    found = [graph for graph in graphs if graph.component == component]
    wanted = dtype or next((graph.dtype for graph in found), None)
    return tuple(graph for graph in found if graph.dtype == wanted)


def _length(axis: str, sizes: Mapping[str, int]) -> int:
    factor, _, name = axis.rpartition("*")
    return int(factor or 1) * sizes[name]


def _check_chain(graphs: Sequence[Graph], indices: Sequence[int | None], *, whole: bool = True) -> None:
    """Refuse the parts of a stream or of exact strips, whose places are `indices`, if one is there twice or, with
    `whole`, missing. (A pass in exact strips says itself which step it lacks: engines may be built of some.)"""
    chains: dict[tuple[str, str], list[int]] = {}
    for graph, index in zip(graphs, indices, strict=True):
        if index is None:
            raise ValueError(f"{shown(graph.file)} is no part of a chain")
        chains.setdefault((graph.component, graph.dtype), []).append(index)
    for (component, _), found in chains.items():
        if len(set(found)) != len(found) or (whole and max(found) >= len(found)):
            raise ValueError(f"a part of the {shown(component)} is missing or there twice")


def _weight_bytes(values: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    found = {file: dict(weights) for file, weights in values.items()}
    if not all(type(size) is int and size >= 0 for weights in found.values() for size in weights.values()):
        raise ValueError("weight_bytes holds something else than whole numbers")
    return found


def _graph(component: str, values: Mapping[str, Any]) -> Graph:
    own: dict[str, Any] = {key: values[key] for key in ("file", "weights", "dtype", "opset", "causal")}
    for side in ("inputs", "outputs"):
        own[side] = tuple(TensorInfo(t["name"], t["dtype"], tuple(t["shape"])) for t in values[side])
    tensors = (*own["inputs"], *own["outputs"])
    texts = [own["file"], own["weights"], own["dtype"], *(text for one in tensors for text in (one.name, one.dtype))]
    axes = [axis for tensor in tensors for axis in tensor.shape]
    if (
        not all(isinstance(text, str) for text in texts)
        or type(own["opset"]) is not int
        or type(own["causal"]) not in (bool, type(None))
        or not all(type(axis) is int or isinstance(axis, str) for axis in axes)
    ):
        raise ValueError(f"a field of a graph of the {shown(component)} is of the wrong kind")
    stage, segment = values.get("stage"), values.get("segment")
    return Graph(
        component=component,
        **own,
        stage=None if stage is None else Stage(**stage),
        segment=None if segment is None else Segment(**segment),
        cpu_file=values.get("cpu_file"),
    )
