"""The steps of an export in order: checkpoint, weights, graphs, manifest, rename."""

import importlib.metadata
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runtime.errors import InputError, OutputError
from ..runtime.extras import require
from ..runtime.hashing import HashingWriter
from ..runtime.manifest import FileEntry, Graph, Manifest, TensorInfo
from ..runtime.partial_output import partial_output, translated_errors
from .checkpoints import Checkpoint, SourceOptions, open_checkpoint
from .safetensors_file import write_safetensors

__all__ = ["ExportSettings", "Progress", "export_bundle"]

OPSET = 18
Progress = Callable[[str, int, int], None]
"""Called with (what is being done, bytes done, bytes in all)."""


@dataclass(frozen=True)
class ExportSettings:
    """How to export. `causal` names further causalities to export for video models beside the config's own."""

    components: tuple[str, ...] = ("encoder", "decoder")
    attention: str = "sdpa"
    fuse_qkv: bool = True
    causal: tuple[bool, ...] = ()
    overrides: Mapping[str, Any] | None = None
    source: SourceOptions | None = None


def export_bundle(
    source: Path, folder: Path, settings: ExportSettings | None = None, progress: Progress | None = None
) -> Manifest:
    """Export a checkpoint to a bundle folder, which exists afterwards only if everything succeeded.

    Raises:
        CheckpointError, ConfigError: the source cannot be used.
        OutputError: `folder` exists already, or cannot be written (a full disk, no permission).
        InputError: a setting has a wrong value.
        MissingExtra: torch or onnx is not installed.
    """
    settings = settings or ExportSettings()
    started = time.perf_counter()
    for module in ("torch", "onnx"):
        require(module, extra="export")
    _check_settings(settings)
    checkpoint = open_checkpoint(source, settings.overrides, settings.source)
    if os.path.lexists(folder):
        raise OutputError(f"{folder} exists already: give a new folder, or delete this one first")
    with partial_output(folder) as temporary, translated_errors(folder):
        temporary.mkdir()
        written = _Writer(temporary, checkpoint, settings, progress or (lambda *_: None))
        graphs = tuple(written.graphs())
        manifest = Manifest(
            config=written.checkpoint.config,
            graphs=graphs,
            files=tuple(written.files),
            produced_by=_produced_by(checkpoint, source, settings, time.perf_counter() - started),
            folder=temporary,
        )
        manifest.write()
    return Manifest.open(folder)


def _check_settings(settings: ExportSettings) -> None:
    from .components import ATTENTION_KINDS, COMPONENTS

    chosen = settings.components
    if not chosen or len(set(chosen)) != len(chosen) or not all(component in COMPONENTS for component in chosen):
        raise InputError(f"components must be some of {', '.join(COMPONENTS)}, each once, got {chosen}")
    if settings.attention not in ATTENTION_KINDS:
        raise InputError(f"attention must be one of {', '.join(ATTENTION_KINDS)}, got {settings.attention!r}")


class _Writer:
    """Writes one component after the other and remembers the files."""

    def __init__(self, folder: Path, checkpoint: Checkpoint, settings: ExportSettings, progress: Progress) -> None:
        from .components import component_of, meta_model

        model = meta_model(checkpoint.config, attention=settings.attention, fuse_qkv=settings.fuse_qkv)
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        self.checkpoint = checkpoint.checked(expected).with_statistics()
        self.model = model
        self.folder = folder
        self.settings = settings
        self.files: list[FileEntry] = []
        self._shapes: dict[str, dict[str, tuple[int, ...]]] = {component: {} for component in settings.components}
        for name, shape in expected.items():
            component = component_of(name)
            if component in self._shapes:
                self._shapes[component][name] = shape
        self._total = sum(4 * math.prod(shape) for shapes in self._shapes.values() for shape in shapes.values())
        self._done = 0
        self._progress = progress

    def graphs(self) -> Iterator[Graph]:
        for component in self.settings.components:
            yield from self._component(component)

    def _component(self, component: str) -> Iterator[Graph]:
        import onnx

        from .components import graph_specs
        from .graph import GraphBuilder
        from .trace import lower

        weights_name = f"{component}.safetensors"
        weights = write_safetensors(
            self.folder / weights_name, self._shapes[component], lambda name: self._read(component, name)
        )
        self.files.append(FileEntry(weights_name, weights.size_bytes, weights.sha256))
        for spec in graph_specs(self.checkpoint.config, self.model, component, self.settings.causal):
            self._progress(f"{component} graph", self._done, self._total)
            builder = GraphBuilder(opset=OPSET, weights=weights.tensors)
            lower(spec.module, [tensor.name for tensor in spec.inputs], spec.output.name, builder, prefix="model.")
            proto = builder.finish(component, spec.inputs, [spec.output])
            name = f"{component}.{spec.variant}.onnx" if spec.variant else f"{component}.onnx"
            path = self.folder / name
            with HashingWriter(path) as writer:
                writer.write(proto.SerializeToString())
            onnx.checker.check_model(str(path), full_check=True)
            self.files.append(FileEntry(name, writer.size_bytes, writer.hexdigest()))
            yield Graph(
                component=component,
                file=name,
                weights=weights_name,
                dtype="float32",
                opset=OPSET,
                causal=spec.causal,
                inputs=tuple(TensorInfo(t.name, t.dtype, t.shape) for t in spec.inputs),
                outputs=(TensorInfo(spec.output.name, spec.output.dtype, spec.output.shape),),
            )

    def _read(self, component: str, name: str) -> Any:
        self._progress(f"{component} weights", self._done, self._total)
        tensor = self.checkpoint.tensors[name]
        self._done += 4 * math.prod(tensor.shape)
        return tensor.read()


def _produced_by(checkpoint: Checkpoint, source: Path, settings: ExportSettings, seconds: float) -> dict[str, Any]:
    return {
        "latentrt": importlib.metadata.version("latentrt"),
        "torch": importlib.metadata.version("torch"),
        "onnx": importlib.metadata.version("onnx"),
        "python": platform.python_version(),
        "source": source.name,
        "format": checkpoint.format,
        "variant": checkpoint.variant,
        "attention": settings.attention,
        "fuse_qkv": settings.fuse_qkv,
        "seconds": round(seconds, 2),
    }
