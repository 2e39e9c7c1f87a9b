"""Exports a checkpoint to a bundle: open the checkpoint, write weights, graphs and manifest, rename the folder."""

import math
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.arrays.kinds import Dtype
from ..runtime.bundle.graph import FileEntry, Graph
from ..runtime.bundle.graph_cost import GraphCost
from ..runtime.bundle.manifest import MANIFEST_NAME, Manifest
from ..runtime.errors import InputError
from ..runtime.extras import installed_version, require
from ..runtime.selftest.golden_samples import SAMPLES_FILE
from ..runtime.system.outputs.partial_output import partial_output, require_free, translated_errors
from .checkpoints import Checkpoint, SourceOptions, open_checkpoint
from .provenance import check_licence, source_record
from .weights.narrowing import ITEM_BYTES

if TYPE_CHECKING:
    from .graphs.graph_writer import ComponentGraphs, WrittenGraphs
    from .precision.ranges import RangeProgress, RangeTable

__all__ = ["ExportProgress", "ExportSettings", "export_bundle"]

_EPOCH = "SOURCE_DATE_EPOCH"
ExportProgress = Callable[[str, int, int], None]
"""Called with (name of the step, bytes done, bytes in all). It may raise an exception to stop the export."""


@dataclass(frozen=True)
class ExportSettings:
    """How `export_bundle` exports.

    Attributes:
        components: "encoder", "decoder" or both, each once.
        dtypes: precisions of the computation: "float32", "float16", "bfloat16". Each has graphs of its own.
        attention: form of the attention in the graphs: "sdpa" (the pattern that engines fuse), "eager" (plain
            operators) or "sliced" (queries in pieces, in bounded memory).
        fuse_qkv: run the three projections of an attention as one.
        causal: causalities of a video model to export in addition to the config's own.
        stream: for video models: export the graphs that run a clip chunk by chunk.
        exact: for image models: export the graphs that run a picture in strips with the numbers of a single pass.
        check_range: sample pictures or clips. Tensors that they show to be too large for float16 stay in float32.
        overrides: config fields that replace those of the source, such as {"scaling_factor": 0.18215}.
        source: how to read the source.
        license: the licence of the weights, such as "apache-2.0". None takes that of the model card, if there is one.
    """

    components: tuple[str, ...] = ("encoder", "decoder")
    dtypes: tuple[Dtype, ...] = ("float32",)
    attention: str = "sdpa"
    fuse_qkv: bool = True
    causal: tuple[bool, ...] = ()
    stream: bool = True
    exact: bool = True
    check_range: tuple[Path, ...] = ()
    overrides: Mapping[str, Any] | None = None
    source: SourceOptions | None = None
    license: str | None = None


def export_bundle(
    source: str | Path | Checkpoint,
    folder: str | Path,
    settings: ExportSettings | None = None,
    progress: ExportProgress | None = None,
    range_progress: "RangeProgress | None" = None,
) -> Manifest:
    """Export a checkpoint to a bundle. The folder has content afterwards only if the whole export succeeded.

    Args:
        source: a folder of diffusers or Flax, or of a pipeline that holds a VAE; a single checkpoint file; or a model
            on the hub, as `open_checkpoint` takes it. Or a `Checkpoint`, for weights that are in memory.
        folder: the folder of the bundle, which is new or empty.
        settings: how to export; by default `ExportSettings()`.
        progress: called before each weight and each graph is written with (name of the step, bytes done, bytes in
            all). It may raise an exception to stop the export.
        range_progress: called before and after each run of a range check.

    Returns:
        The manifest of the bundle.

    Raises:
        CheckpointError, ConfigError: the source cannot be used.
        OutputError: `folder` exists and is not empty, or cannot be written (a full disk, no permission).
        InputError: a setting has a wrong value.
        EngineError: memory ran out during a range check.
        MissingExtra: torch or onnx is not installed.
    """
    folder = Path(folder)
    settings = settings or ExportSettings()
    started = time.perf_counter()
    for module in ("torch", "onnx"):
        require(module, extra="export")
    _check_settings(settings)
    checkpoint = (
        source if isinstance(source, Checkpoint) else open_checkpoint(source, settings.overrides, settings.source)
    )
    require_free(folder)
    with partial_output(folder, last_name=MANIFEST_NAME) as temporary, translated_errors(folder):
        temporary.mkdir()
        written = _Writer(temporary, checkpoint, settings, progress or (lambda *_: None), range_progress)
        graphs = tuple(written.graphs())
        written.golden_samples()
        manifest = Manifest(
            config=written.checkpoint.config,
            graphs=tuple(graph for graph in graphs if _is_whole(graph)),
            streams=tuple(graph for graph in graphs if graph.stage is not None),
            strip_graphs=tuple(graph for graph in graphs if graph.strip_stage is not None),
            weight_bytes=written.weight_bytes,
            costs=written.costs,
            files=tuple(written.files),
            produced_by=_produced_by(checkpoint, _name_of(source), settings, time.perf_counter() - started),
            ranges=None if written.ranges is None else written.ranges.to_json(),
            source=source_record(
                checkpoint,
                _name_of(source),
                settings.license,
                fetch=isinstance(source, str) and not Path(source).exists(),
                on_file=written.on_source_file,
            ),
            samples=SAMPLES_FILE,
            folder=temporary,
        )
        manifest.write()
    return Manifest.open(folder)


def _check_settings(settings: ExportSettings) -> None:
    from .graphs.components import ATTENTION_KINDS, COMPONENTS

    check_licence(settings.license)
    chosen = settings.components
    if not chosen or len(set(chosen)) != len(chosen) or not all(component in COMPONENTS for component in chosen):
        raise InputError(f"components must be some of {', '.join(COMPONENTS)}, each once, got {chosen}")
    dtypes = settings.dtypes
    if not dtypes or len(set(dtypes)) != len(dtypes) or not all(dtype in ITEM_BYTES for dtype in dtypes):
        raise InputError(f"dtypes must be some of {', '.join(ITEM_BYTES)}, each once, got {dtypes}")
    for path in settings.check_range:
        if not path.exists():
            raise InputError(f"--check-range {path}: there is no such file or folder; give pictures or clips")
    if settings.check_range and len(chosen) < len(COMPONENTS):
        raise InputError("--check-range runs samples through encoder and decoder: export both components")
    if settings.attention not in ATTENTION_KINDS:
        raise InputError(f"attention must be one of {', '.join(ATTENTION_KINDS)}, got {settings.attention!r}")


class _Writer:
    """Writes each component in each precision, and records the files."""

    def __init__(
        self,
        folder: Path,
        checkpoint: Checkpoint,
        settings: ExportSettings,
        progress: ExportProgress,
        range_progress: "RangeProgress | None",
    ) -> None:
        from .graphs.components import component_of, graph_specs, meta_model
        from .graphs.graph_writer import ComponentGraphs
        from .graphs.streams import stream_specs
        from .graphs.strip_graphs import strip_specs

        model = meta_model(checkpoint.config, attention=settings.attention, fuse_qkv=settings.fuse_qkv)
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        self.checkpoint = checkpoint.checked(expected).with_statistics()
        self.folder = folder
        self.settings = settings
        self.files: list[FileEntry] = []
        self.weight_bytes: dict[str, Mapping[str, int]] = {}
        self.costs: dict[str, GraphCost] = {}
        shapes: dict[str, dict[str, tuple[int, ...]]] = {component: {} for component in settings.components}
        for name, shape in expected.items():
            component = component_of(name)
            if component in shapes:
                shapes[component][name] = shape
        config = self.checkpoint.config
        self._components = []
        for component in settings.components:
            specs = list(graph_specs(config, model, component, settings.causal))
            if settings.stream and config.supports_streams:
                specs += stream_specs(config, model, component)
            if settings.exact and config.supports_strips:
                specs += strip_specs(config, model, component)
            self._components.append(ComponentGraphs(component, specs, shapes[component]))
        dtypes = {*settings.dtypes, "float32"} if settings.check_range else settings.dtypes
        self._total = sum(graphs.bytes_in(dtype) for graphs in self._components for dtype in dtypes)
        self.ranges: RangeTable | None = None
        self._done = 0
        self._progress = progress
        self._range_progress = range_progress

    def graphs(self) -> Iterator[Graph]:
        ready = self._checked_range() if self.settings.check_range else {}
        for index, dtype in enumerate(self.settings.dtypes):
            for component in self._components:
                keep = {} if self.ranges is None or dtype != "float16" else self._kept()
                written = ready.get((component, dtype)) or self._write(self.folder, component, dtype, keep)
                self.files += written.files
                self.weight_bytes |= written.weight_bytes
                if index == 0:  # the graphs of all precisions are cut alike
                    component.check(self.checkpoint.config, written.graphs)
                if dtype == "float32":
                    self.costs |= component.costs(self.checkpoint.config)
                yield from written.graphs

    def golden_samples(self) -> None:
        """Write the samples that engines are tested with."""
        from .samples.golden_file import write_golden_samples

        components, causal = self.settings.components, self.settings.causal
        on_sample = partial(self._report, "golden samples")
        self.files.append(write_golden_samples(self.folder, self.checkpoint, components, causal, lambda _: on_sample()))

    def _checked_range(self) -> "dict[tuple[ComponentGraphs, str], WrittenGraphs]":
        """Run the float32 graphs on the samples, and return them as written if the bundle has this precision."""
        from .precision.ranges import measure_ranges

        scratch = self.folder / "float32"
        scratch.mkdir()
        written = {component: self._write(scratch, component, "float32", {}) for component in self._components}
        Manifest(
            config=self.checkpoint.config,
            graphs=tuple(graph for one in written.values() for graph in one.graphs if _is_whole(graph)),
            files=tuple(file for one in written.values() for file in one.files),
            produced_by={},
            folder=scratch,
        ).write()
        self._report("range")
        self.ranges = measure_ranges(scratch, self.settings.check_range, self._range_progress)
        kept = "float32" in self.settings.dtypes
        for file in (file.name for one in written.values() for file in one.files if kept):
            (scratch / file).rename(self.folder / file)
        shutil.rmtree(scratch)
        return {(component, "float32"): one for component, one in written.items()}

    def _kept(self) -> dict[str, frozenset[str]]:
        assert self.ranges is not None
        return {file: self.ranges.kept(file) for file in self.ranges.largest}

    def _write(
        self, folder: Path, component: "ComponentGraphs", dtype: str, keep: Mapping[str, frozenset[str]]
    ) -> "WrittenGraphs":
        read = partial(self._read, component.component, dtype)
        on_graph = partial(self._report, f"{component.component} graph")
        return component.write(folder, dtype, read, keep, on_graph)

    def _read(self, component: str, dtype: str, name: str) -> Any:
        self._report(f"{component} weights")
        tensor = self.checkpoint.tensors[name]
        self._done += ITEM_BYTES[dtype] * math.prod(tensor.shape)
        return tensor.read()

    def on_source_file(self) -> None:
        """Report that a file of the source is hashed."""
        self._report("source files")

    def _report(self, step: str) -> None:
        self._progress(step, self._done, self._total)


def _name_of(source: str | Path | Checkpoint) -> str:
    return (source.source if isinstance(source, Checkpoint) else Path(source)).name


def _is_whole(graph: Graph) -> bool:
    return graph.stage is None and graph.strip_stage is None


def _produced_by(checkpoint: Checkpoint, source_name: str, settings: ExportSettings, seconds: float) -> dict[str, Any]:
    return {
        **{
            name: installed_version(name) for name in ("latentrt", "torch", "onnx")
        },  # None for a package without metadata
        "python": platform.python_version(),
        "source": source_name,
        "date": _date().isoformat(timespec="seconds"),
        "format": checkpoint.format,
        "variant": checkpoint.variant,
        "attention": settings.attention,
        "fuse_qkv": settings.fuse_qkv,
        "seconds": None if _EPOCH in os.environ else round(seconds, 2),
    }


def _date() -> datetime:
    """Now, or the time of SOURCE_DATE_EPOCH, with which two exports write the same manifest."""
    stated = os.environ.get(_EPOCH)
    if stated is None:
        return datetime.now(UTC)
    try:
        return datetime.fromtimestamp(int(stated), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InputError(
            f"{_EPOCH} must be whole seconds since 1970, got {stated!r:.60}: correct or unset it"
        ) from error
