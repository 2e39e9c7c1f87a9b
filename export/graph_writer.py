"""The graphs of one component, written in every precision that is asked for, each precision with its weights."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from ..runtime.hashing import HashingWriter
from ..runtime.manifest import FileEntry, Graph, TensorInfo
from .components import GraphSpec
from .graph import GraphBuilder
from .narrowing import ITEM_BYTES
from .precision import apply_precision, opset_for, plan_precision
from .safetensors_file import planned_safetensors, write_safetensors
from .trace import lower

__all__ = ["ComponentGraphs", "WrittenGraphs"]

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class WrittenGraphs:
    """What was written in one precision; `float32_nodes` says, per graph file, which nodes stayed in float32."""

    graphs: tuple[Graph, ...]
    files: tuple[FileEntry, ...]
    float32_nodes: Mapping[str, tuple[str, ...]]


class ComponentGraphs:
    """One component's graphs, lowered once in float32; `write` puts one precision of them into a folder."""

    def __init__(self, component: str, specs: Iterable[GraphSpec], shapes: Shapes) -> None:
        self.component = component
        self.shapes = shapes
        _, planned = planned_safetensors(self._weights_name("float32"), shapes)
        self.models: dict[str, tuple[GraphSpec, ModelProto]] = {}
        self._planar: dict[str, ModelProto] = {}

        def lowered(spec: GraphSpec, *, planar: bool) -> ModelProto:
            builder = GraphBuilder(opset=opset_for("float32"), weights=planned, planar=planar)
            lower(spec.module, spec.inputs, spec.outputs, builder, prefix="model.")
            return builder.finish(component, spec.inputs, spec.outputs)

        for spec in specs:
            name = self.file_name(spec, "float32")
            self.models[name] = spec, lowered(spec, planar=False)
            if spec.stage is not None:  # not of a whole clip: the 2-D form takes twice the memory
                self._planar[name] = lowered(spec, planar=True)

    def bytes_in(self, dtype: str) -> int:
        """About how large the weights are in a precision."""
        return ITEM_BYTES[dtype] * sum(map(math.prod, self.shapes.values()))

    def write(
        self,
        folder: Path,
        dtype: str,
        read: Callable[[str], NDArray[np.float32]],
        keep: Mapping[str, frozenset[str]] | None = None,
        on_graph: Callable[[], None] = lambda: None,
    ) -> WrittenGraphs:
        """Write weights and graphs; `keep` names, per float32 graph file, the tensors that stay in float32, and
        `on_graph` is called before each graph.

        Raises:
            CheckpointError: a weight that the precision cannot hold. OSError: the folder cannot be written.
        """
        # Streams and exact steps are float32 so far.
        models = {
            name: (spec, model)
            for name, (spec, model) in self.models.items()
            if dtype == "float32" or (spec.stage is None and spec.segment is None)
        }
        plans = {
            name: plan_precision(model, dtype, (keep or {}).get(name, ()))
            for name, (_, model) in models.items()
            if dtype != "float32"
        }
        wide = frozenset().union(*(plan.float32_weights for plan in plans.values()))
        kinds = {name: "float32" if name in wide else dtype for name in self.shapes}
        weights_name = self._weights_name(dtype)
        weights = write_safetensors(folder / weights_name, self.shapes, read, kinds)
        files = [FileEntry(weights_name, weights.size_bytes, weights.sha256)]
        graphs, float32_nodes = [], {}
        for name, (spec, model) in models.items():
            on_graph()
            file = self.file_name(spec, dtype)
            if dtype != "float32":
                model = apply_precision(model, plans[name], weights.tensors)
                float32_nodes[file] = tuple(sorted(plans[name].float32_nodes))
            files.append(_write_model(folder / file, model))
            planar = None
            if dtype == "float32" and name in self._planar:
                planar = file.replace(".onnx", ".planar.onnx")
                files.append(_write_model(folder / planar, self._planar[name]))
            graphs.append(
                Graph(
                    component=self.component,
                    file=file,
                    weights=weights_name,
                    dtype=dtype,
                    opset=opset_for(dtype),
                    causal=spec.causal,
                    inputs=tuple(TensorInfo(t.name, t.dtype, t.shape) for t in spec.inputs),
                    outputs=tuple(TensorInfo(t.name, t.dtype, t.shape) for t in spec.outputs),
                    stage=spec.stage,
                    segment=spec.segment,
                    planar=planar,
                )
            )
        return WrittenGraphs(tuple(graphs), tuple(files), float32_nodes)

    def file_name(self, spec: GraphSpec, dtype: str) -> str:
        parts = [self.component, spec.variant, "" if dtype == "float32" else dtype, "onnx"]
        return ".".join(filter(None, parts))

    def _weights_name(self, dtype: str) -> str:
        return f"{self.component}.safetensors" if dtype == "float32" else f"{self.component}.{dtype}.safetensors"


def _write_model(path: Path, model: ModelProto) -> FileEntry:
    with HashingWriter(path) as writer:
        writer.write(model.SerializeToString())
    onnx.checker.check_model(str(path), full_check=True)
    return FileEntry(path.name, writer.size_bytes, writer.hexdigest())
