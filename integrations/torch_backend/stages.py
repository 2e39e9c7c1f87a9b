"""The part of a reference model that computes the same as one graph of a bundle."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from ...export.graphs.components import graph_specs
from ...export.graphs.strip_graphs import strip_specs
from ...export.models.strip_modules import row_statistics
from ...runtime.bundle import ports
from ...runtime.bundle.graph import Graph
from ...runtime.bundle.manifest import Manifest
from ...runtime.errors import EngineError
from .models import LoadedModel
from .time_axis import EagerStream

__all__ = ["Inputs", "Stage", "stage_of"]

Inputs = Mapping[str, Any]
"""By the names of `ports`: tensors on the model's device, and whole numbers for `FIRST`, `LAST` and `SIDES`."""


class Stage(Protocol):
    """Computes the outputs of one graph. Threads may share it."""

    def __call__(self, inputs: Inputs, *, last: bool = False, in_place: bool = False) -> dict[str, Tensor]:
        """The outputs by name, the result first.

        Args:
            inputs: by name.
            last: no step follows, so the next states are left out.
            in_place: the next states may be written over the states.
        """
        ...


def stage_of(manifest: Manifest, graph: Graph, weights: LoadedModel) -> Stage:
    """The part of the model for a graph.

    Raises:
        EngineError: the graph stands for another part than any of this version.
    """
    if graph.stage is not None:
        return _StreamStage(manifest, graph, weights)
    if graph.strip_stage is not None:
        return _ModuleStage(graph, _strip_module(graph, weights), weights)
    causal = () if graph.causal is None else (graph.causal,)
    for spec in graph_specs(weights.config, weights.module, graph.component, causal):
        if spec.causal == graph.causal and _names(spec) == _names(graph):
            return _ModuleStage(graph, spec.module, weights)
    raise _unknown(graph)


class _ModuleStage:
    """A module of the exporter that takes the inputs of a graph in their order."""

    def __init__(self, graph: Graph, module: nn.Module, weights: LoadedModel) -> None:
        self._inputs = [tensor.name for tensor in graph.inputs]
        self._outputs = [tensor.name for tensor in graph.outputs]
        self._module = module
        self._wide_statistics = weights.lowered and ports.ROW_MEAN in self._outputs

    def __call__(self, inputs: Inputs, *, last: bool = False, in_place: bool = False) -> dict[str, Tensor]:
        made = self._module(*(inputs[name] for name in self._inputs))
        results = dict(zip(self._outputs, made if isinstance(made, tuple) else (made,), strict=True))
        if self._wide_statistics:
            results[ports.ROW_MEAN], results[ports.ROW_VARIANCE] = row_statistics(results[ports.RESULT].float())
        return results


class _StreamStage:
    """A stage of a stream. Each call has a time axis of its own, so calls do not meet."""

    def __init__(self, manifest: Manifest, graph: Graph, weights: LoadedModel) -> None:
        assert graph.stage is not None
        self._graph, self._index, model = graph, graph.stage.index, weights.module
        self._states = [tensor.name for tensor in graph.inputs if ports.is_state(tensor.name)]
        names = {tensor.name for tensor in graph.inputs}
        noises = {ports.noise_input(stack.block) for stack in weights.config.noise_stacks} & names
        self._noise = next(iter(noises), None)
        self._causal = bool(graph.causal)
        self._part = model.decoder if graph.component == "decoder" else model.encoder
        parts, count = self._part.stages, len(manifest.find_streams(graph.component, graph.dtype))
        self._is_whole = count == 1 and graph.component == "encoder"  # encoders were one graph in earlier versions
        if not self._is_whole and (count != len(parts) or parts[self._index].ratio != graph.stage.ratio):
            raise _unknown(graph)

    def __call__(self, inputs: Inputs, *, last: bool = False, in_place: bool = False) -> dict[str, Tensor]:
        first = inputs[ports.FIRST]
        states = None if first else [inputs[name] for name in self._states]
        stream = EagerStream(self._causal, states, first, inputs.get(ports.LAST, 0), keeps=not last, in_place=in_place)
        if self._is_whole:
            result = self._part(inputs[ports.CHUNK], stream)
        elif self._graph.component == "encoder":
            result = self._part.stage(self._index, inputs[ports.CHUNK], stream)
        else:
            noise = None if self._noise is None else inputs[self._noise]
            temb = inputs.get(ports.TEMB)
            result = self._part.stage(self._index, inputs[ports.CHUNK], stream, temb, noise)
        if not last and len(stream.states) != len(self._states):
            raise _unknown(self._graph)
        names = () if last else (ports.next_state(name) for name in self._states)
        return {ports.RESULT: result, **dict(zip(names, stream.states, strict=True))}


def _strip_module(graph: Graph, weights: LoadedModel) -> nn.Module:
    for spec in strip_specs(weights.config, weights.module, graph.component):
        if spec.strip_stage == graph.strip_stage and _names(spec) == _names(graph):
            return spec.module
    raise _unknown(graph)


def _names(graph: Any) -> tuple[list[str], list[str]]:
    """The names of the inputs and outputs of a graph, or of a graph to export."""
    return [tensor.name for tensor in graph.inputs], [tensor.name for tensor in graph.outputs]


def _unknown(graph: Graph) -> EngineError:
    return EngineError(
        f"{graph.file} is a part of the {graph.component} that PyTorch's stages of this version do not have: export "
        f"the bundle again, or take another backend"
    )
