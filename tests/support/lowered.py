"""The graphs of an architecture without its weights, with their entries in a manifest."""

from functools import cache
from typing import Any

from architectures import ALL
from onnx import ModelProto

from latentrt.export.graphs.components import GraphSpec, component_of, graph_specs, meta_model
from latentrt.export.graphs.graph_writer import ComponentGraphs
from latentrt.export.graphs.streams import stream_specs
from latentrt.export.graphs.strip_graphs import strip_specs
from latentrt.export.reach.streams import stream_facts
from latentrt.runtime.bundle.graph import Graph, TensorInfo
from latentrt.runtime.config.families import config_from_dict
from latentrt.runtime.config.model_config import ModelConfig

__all__ = ["Pair", "lowered", "streams_of", "strips_of", "whole_of"]

Pair = tuple[Graph, ModelProto]


@cache
def lowered(name: str, component: str) -> tuple[ModelConfig, tuple[Pair, ...]]:
    """The config, and the graphs of every kind, each with its entry."""
    config: Any = config_from_dict(ALL[name])
    model = meta_model(config)
    specs = list(graph_specs(config, model, component))
    if config.supports_streams:
        specs += stream_specs(config, model, component)
    if config.supports_strips:
        specs += strip_specs(config, model, component)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items() if component_of(key) == component}
    graphs = ComponentGraphs(component, specs, shapes)
    return config, tuple((_entry(file, spec, proto), proto) for file, (spec, proto) in graphs.models.items())


def whole_of(name: str, component: str) -> ModelProto:
    """The graph of the whole component."""
    return next(model for graph, model in lowered(name, component)[1] if graph.kind == "whole")


def streams_of(name: str, component: str) -> list[Pair]:
    return [pair for pair in lowered(name, component)[1] if pair[0].stage is not None]


def strips_of(name: str, component: str) -> list[Pair]:
    return [pair for pair in lowered(name, component)[1] if pair[0].strip_stage is not None]


def _entry(file: str, spec: GraphSpec, model: ModelProto) -> Graph:
    inputs, outputs = (
        tuple(TensorInfo(one.name, one.dtype, one.shape) for one in side) for side in (spec.inputs, spec.outputs)
    )
    halo = None if spec.stage is None else stream_facts(model).halo
    return Graph(
        spec.component,
        file,
        "",
        "float32",
        18,
        spec.causal,
        inputs,
        outputs,
        stage=spec.stage,
        strip_stage=spec.strip_stage,
        halo=halo,
    )
