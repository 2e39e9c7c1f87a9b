"""Writes the graphs of a component in each precision, together with the weights of that precision."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from ...runtime.bundle import ports
from ...runtime.bundle.graph import FileEntry, Graph, TensorInfo
from ...runtime.bundle.graph_cost import GraphCost
from ...runtime.config.model_config import ModelConfig
from ...runtime.system.hashing import HashingWriter
from ..lowering.graph import GraphBuilder, TensorSpec
from ..lowering.trace import lower
from ..precision.precision import PrecisionPlan, opset_for, plan_precision
from ..reach.streams import check_streams, stream_facts
from ..reach.strips import check_strips
from ..weights.narrowing import ITEM_BYTES
from ..weights.safetensors_file import planned_safetensors, write_safetensors
from .components import GraphSpec
from .graph_costs import graph_cost
from .typed_graph import apply_precision

__all__ = ["ComponentGraphs", "WrittenGraphs"]

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class WrittenGraphs:
    """The files of one component in one precision.

    Attributes:
        graphs: the graphs, as the manifest describes them.
        files: all files, with their sizes and hashes.
        float32_nodes: by graph file, the names of the nodes that stayed in float32.
        weight_bytes: by graph file, the size in bytes of each initializer whose values are in the weights file.
    """

    graphs: tuple[Graph, ...]
    files: tuple[FileEntry, ...]
    float32_nodes: Mapping[str, tuple[str, ...]]
    weight_bytes: Mapping[str, Mapping[str, int]]


class ComponentGraphs:
    """The graphs of one component, lowered once in float32. `write` writes them in one precision.

    Args:
        component: "encoder" or "decoder".
        specs: the graphs.
        shapes: shape of each weight of the component, by its name.

    Attributes:
        models: each graph and its float32 model, by the name of the float32 file.
        cpu_models: the form that ONNX Runtime runs faster on a CPU, of the graphs that have one.
    """

    def __init__(self, component: str, specs: Iterable[GraphSpec], shapes: Shapes) -> None:
        self.component = component
        self.shapes = shapes
        _, planned = planned_safetensors(self._weights_name("float32"), shapes)
        self.models: dict[str, tuple[GraphSpec, ModelProto]] = {}
        self.cpu_models: dict[str, ModelProto] = {}

        def lowered(spec: GraphSpec, *, for_cpu: bool) -> ModelProto:
            builder = GraphBuilder(opset=opset_for("float32"), weights=planned, for_cpu=for_cpu)
            lower(spec.module, spec.inputs, spec.outputs, builder, prefix="model.")
            return builder.finish(component, spec.inputs, spec.outputs)

        for spec in specs:
            name = self.file_name(spec, "float32")
            self.models[name] = spec, lowered(spec, for_cpu=False)
            if spec.has_cpu_form:
                self.cpu_models[name] = lowered(spec, for_cpu=True)
        self._facts = {
            name: stream_facts(model) for name, (spec, model) in self.models.items() if spec.stage is not None
        }

    def bytes_in(self, dtype: str) -> int:
        """Return the approximate size of the weights in a precision, in bytes."""
        return ITEM_BYTES[dtype] * sum(map(math.prod, self.shapes.values()))

    def write(
        self,
        folder: Path,
        dtype: str,
        read: Callable[[str], NDArray[np.float32]],
        keep: Mapping[str, frozenset[str]] | None = None,
        on_graph: Callable[[], None] = lambda: None,
    ) -> WrittenGraphs:
        """Write the weights and the graphs in one precision.

        Args:
            folder: the folder to write to.
            dtype: "float32", "float16" or "bfloat16".
            read: returns the values of a weight.
            keep: by float32 graph file, the tensors that stay in float32.
            on_graph: called before each graph is written.

        Raises:
            CheckpointError: the precision cannot hold a weight.
            OSError: the folder cannot be written.
        """
        plans = {} if dtype == "float32" else self._plans(dtype, keep or {})
        stored_wide = frozenset().union(*(plan.float32_weights for plan in plans.values()))
        kinds = {name: "float32" if name in stored_wide else dtype for name in self.shapes}
        weights_name = self._weights_name(dtype)
        weights = write_safetensors(folder / weights_name, self.shapes, read, kinds)
        files = [FileEntry(weights_name, weights.size_bytes, weights.sha256)]
        graphs, float32_nodes, weight_bytes = [], {}, {}
        for name, (spec, model) in self.models.items():
            on_graph()
            file = self.file_name(spec, dtype)
            low: frozenset[str] = frozenset()
            if name in plans:
                model = apply_precision(model, plans[name], weights.tensors)
                float32_nodes[file] = tuple(sorted(plans[name].float32_nodes))
                low = plans[name].low_ports
            files.append(_write_model(folder / file, model))
            weight_bytes[file] = _weight_bytes(model)
            cpu_file = None
            if dtype == "float32" and name in self.cpu_models:
                cpu_file = _cpu_file_name(file)
                files.append(_write_model(folder / cpu_file, self.cpu_models[name]))
            graphs.append(
                Graph(
                    component=self.component,
                    file=file,
                    weights=weights_name,
                    dtype=dtype,
                    opset=opset_for(dtype),
                    causal=spec.causal,
                    inputs=_infos(spec.inputs, dtype, low),
                    outputs=_infos(spec.outputs, dtype, low),
                    stage=spec.stage,
                    strip_stage=spec.strip_stage,
                    cpu_file=cpu_file,
                    halo=self._facts[name].halo if name in self._facts else None,
                )
            )
        return WrittenGraphs(tuple(graphs), tuple(files), float32_nodes, weight_bytes)

    def check(self, config: ModelConfig, graphs: Iterable[Graph]) -> None:
        """Compare the entries of streams and strips with what their graphs need.

        Args:
            config: the model's config.
            graphs: the entries of this component in one precision.

        Raises:
            BundleError: an entry is wrong, or the graphs depend on other positions than the whole component.
        """
        pairs = list(zip(graphs, (model for _, model in self.models.values()), strict=True))
        (whole, *_) = [model for graph, model in pairs if graph.kind == "whole"]
        streams = [pair for pair in pairs if pair[0].stage is not None]
        strips = [pair for pair in pairs if pair[0].strip_stage is not None]
        if streams:
            check_streams(config, whole, streams, tuple(self._facts.values()))
        if strips:
            check_strips(config, whole, strips)

    def costs(self, config: ModelConfig) -> dict[str, GraphCost]:
        """Return what a run of each float32 graph takes, by its file. Graphs of strips have no cost: small passes in
        strips are measured."""
        made: dict[str, GraphCost] = {}
        for name, (spec, model) in self.models.items():
            if spec.strip_stage is None:
                for file, own in ((name, model), (_cpu_file_name(name), self.cpu_models.get(name))):
                    cost = None if own is None else graph_cost(config, spec, own)
                    if cost is not None:
                        made[file] = cost
        return made

    def _plans(self, dtype: str, keep: Mapping[str, Collection[str]]) -> dict[str, PrecisionPlan]:
        """Return the precision plan of every graph, by its float32 file.

        A range check runs only the graphs of whole components. The plans of streams and strips follow from theirs.
        """
        whole = {name: model for name, (spec, model) in self.models.items() if spec.is_whole}
        plans = {name: plan_precision(model, dtype, keep.get(name, ())) for name, model in whole.items()}
        wide = frozenset().union(*(plan.float32_weights for plan in plans.values()))
        kept = frozenset().union(*(keep.get(name, ()) for name in whole))
        ahead: set[str] = set()
        for name, (_, model) in self.models.items():
            if name not in whole:
                plans[name] = plan_precision(model, dtype, kept | ahead, wide)
                # The next stage takes this stage's `result` under the name `chunk`.
                ahead = {ports.CHUNK} if _maker(model, ports.RESULT) in kept else set()
        return plans

    def file_name(self, spec: GraphSpec, dtype: str) -> str:
        """Return the name of a graph's file in a precision."""
        parts = [self.component, spec.variant, "" if dtype == "float32" else dtype, "onnx"]
        return ".".join(filter(None, parts))

    def _weights_name(self, dtype: str) -> str:
        return f"{self.component}.safetensors" if dtype == "float32" else f"{self.component}.{dtype}.safetensors"


def _cpu_file_name(file: str) -> str:
    """The name of a graph's form for the CPU."""
    return file.replace(".onnx", ".cpu.onnx")


def _infos(tensors: Iterable[TensorSpec], dtype: str, low: Collection[str]) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo(one.name, dtype if one.name in low else one.dtype, one.shape) for one in tensors)


def _maker(model: ModelProto, output: str) -> str:
    """Return the name of the node that computes an output of the graph, or "".

    A node has the name of its result, unless the result was renamed to a graph output.
    """
    return next((node.name for node in model.graph.node if output in node.output), "")


def _weight_bytes(model: ModelProto) -> dict[str, int]:
    """The bytes of each initializer whose values lie in the weights file."""
    entries = {one.name: {entry.key: entry.value for entry in one.external_data} for one in model.graph.initializer}
    return {name: int(values["length"]) for name, values in entries.items() if values}


def _write_model(path: Path, model: ModelProto) -> FileEntry:
    with HashingWriter(path) as writer:
        writer.write(model.SerializeToString())
    onnx.checker.check_model(str(path), full_check=True)
    return FileEntry(path.name, writer.size_bytes, writer.hexdigest())
