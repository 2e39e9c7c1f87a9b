"""The facts of a stream, derived from the graphs of its stages, and the check that the manifest has these facts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, prod

import numpy as np
from onnx import ModelProto

from ...runtime.bundle import ports
from ...runtime.bundle.graph import Graph, Stage
from ...runtime.config.model_config import ModelConfig
from ...runtime.errors import BundleError
from .edges import NOTHING, Edges
from .facts import edges_along, halo_of, shapes_for
from .follow import follow
from .tensors import Tensor, WrongLength

__all__ = ["StreamFacts", "check_streams", "stream_facts"]

_MOST_FRAMES = 256  # of a first chunk, or of a multiple
_CELLS = 4  # latent height and width, while frames are followed
_LATER_FRAMES = 6  # latent frames after those that the stages look ahead


@dataclass(frozen=True)
class StreamFacts:
    """What a graph of a stream needs.

    Attributes:
        lead: the fewest frames of a clip's first chunk that give a result.
        multiple: the fewest frames of a later chunk; later chunks have a multiple of them.
        scale: frames of the result per frame of a later chunk.
        states: the states, in their order.
        halo: rows and columns around a piece that its results depend on, in units of the coarsest input or result;
            None if they depend on all.
    """

    lead: int
    multiple: int
    scale: Fraction
    states: tuple[str, ...]
    halo: int | None


def stream_facts(model: ModelProto) -> StreamFacts:
    """The facts of one stage.

    Raises:
        WrongLength: the stage runs for no number of frames.
    """
    lead = next((count for count in range(1, _MOST_FRAMES) if _made(model, count, first=1)), None)
    multiple = next((count for count in range(1, _MOST_FRAMES) if _made(model, count, first=0)), None)
    if lead is None or multiple is None:
        raise WrongLength(f"a stage of a stream gives no result for up to {_MOST_FRAMES} frames")
    few, many = (_made(model, count * multiple, first=0) for count in (1, 2))
    states = tuple(value.name for value in model.graph.input if ports.is_state(value.name))
    lengths = {**ports.stream_axes(1, (_CELLS, _CELLS)), ports.FRAMES: multiple}
    halo = halo_of(model, lengths, {ports.FIRST: 0, ports.LAST: 0})
    return StreamFacts(lead, multiple, Fraction(many - few, multiple), states, halo)


def _made(model: ModelProto, frames: int, *, first: int) -> int:
    """The frames of the result of a chunk. 0: there are none, or the stage does not run."""
    lengths = {**ports.stream_axes(1, (_CELLS, _CELLS)), ports.FRAMES: frames}
    try:
        values = {ports.FIRST: first, ports.LAST: 0}
        tensors = follow(model, shapes_for(model, lengths), values=values, axes=(), given={})
    except WrongLength:
        return 0
    return tensors[ports.RESULT].shape[2]


def check_streams(
    config: ModelConfig,
    whole: ModelProto,
    stages: Sequence[tuple[Graph, ModelProto]],
    known: Sequence[StreamFacts] = (),
) -> tuple[StreamFacts, ...]:
    """Refuse stages of a stream whose entries in the manifest are not what their graphs need, or that do not depend on
    the same frames as the graph of a whole clip. Return the facts of each stage.

    Args:
        config: the model's config.
        whole: the graph of a whole clip with the same causality.
        stages: each stage's entry in the manifest, and its graph, in the order in which they run.
        known: the facts of each stage, if they were derived before.

    Raises:
        BundleError: such a stage.
    """
    every = tuple(known) or tuple(stream_facts(model) for _, model in stages)
    for index, ((graph, model), facts) in enumerate(zip(stages, every, strict=True)):
        if graph.component == "decoder":
            ratio = prod((one.scale for one in every[index:]), start=Fraction(1))
        else:
            ratio = 1 / prod((one.scale for one in every[:index]), start=Fraction(1))
        _check_entry(graph, model, facts, ratio)
    _check_frames(config, whole, stages)
    return every


def _check_entry(graph: Graph, model: ModelProto, facts: StreamFacts, ratio: Fraction) -> None:
    stage = graph.stage
    assert stage is not None
    wanted = Stage(stage.index, facts.lead, facts.multiple, int(ratio))
    if stage != wanted or ratio != int(ratio):
        raise BundleError(f"{graph.file}: the manifest says {stage}, and the graph needs {wanted}: correct the export")
    if graph.halo != facts.halo:
        raise BundleError(
            f"{graph.file}: the manifest says a halo of {graph.halo}, and the graph needs {facts.halo}: correct the "
            f"export"
        )
    inputs, outputs = ([value.name for value in side] for side in (model.graph.input, model.graph.output))
    listed = [tensor.name for tensor in graph.inputs], [tensor.name for tensor in graph.outputs]
    results = [ports.RESULT, *map(ports.next_state, facts.states)]
    if listed != (inputs, outputs) or outputs != results:
        raise BundleError(
            f"{graph.file}: the graph needs the inputs {inputs} and the outputs {results}, and the manifest says "
            f"{listed[0]} and {listed[1]}: correct the export"
        )


def _check_frames(config: ModelConfig, whole: ModelProto, stages: Sequence[tuple[Graph, ModelProto]]) -> None:
    """Compare the frames that each frame of the stream depends on with those of a whole clip."""
    decodes = stages[0][0].component == "decoder"
    grid_ratio = config.temporal_ratio
    ahead = sum(graph.stage.lead * graph.stage.ratio for graph, _ in stages if graph.stage is not None)
    cells = ceil(ahead / grid_ratio) + _LATER_FRAMES if decodes else _LATER_FRAMES
    frames = cells if decodes else 1 + (cells - 1) * grid_ratio
    edges = _own(frames)
    wanted = _whole_edges(config, whole, cells, edges)
    got = edges
    for graph, model in stages:
        got = _streamed(graph, model, got)
    if got.shape != wanted.shape or (got != wanted).any():
        differing = "another number of frames" if got.shape != wanted.shape else "other frames"
        raise BundleError(
            f"the {stages[0][0].component}'s stream depends on {differing} than a whole clip: correct its states and "
            f"delays"
        )


def _own(frames: int) -> Edges:
    place = np.arange(frames, dtype=np.int32)
    return np.stack([place, -place])[:, None]


def _whole_edges(config: ModelConfig, whole: ModelProto, cells: int, edges: Edges) -> Edges:
    frames = 1 + (cells - 1) * config.temporal_ratio
    pixels = _CELLS * config.spatial_ratio
    lengths = ports.whole_axes(1, (frames, pixels, pixels), (cells, _CELLS, _CELLS), config.noise_stacks)
    name = whole.graph.input[0].name
    given = {name: {"frames": edges[:, :, None, None, :, None, None]}}
    tensors = follow(whole, shapes_for(whole, lengths), axes=("frames",), given=given)
    return _along(tensors[whole.graph.output[0].name])


def _streamed(graph: Graph, model: ModelProto, edges: Edges) -> Edges:
    """The frames of a clip that each frame of a stage's result depends on. `edges`: of the stage's input."""
    stage, parts, start, first = graph.stage, [], 0, 1
    assert stage is not None
    begin, total = int(stage.multiple > 1), edges.shape[-1]
    takes_last = any(tensor.name == ports.LAST for tensor in graph.inputs)
    count = begin + ceil(max(stage.lead - begin, stage.multiple) / stage.multiple) * stage.multiple
    states: Mapping[str, Edges] = {}
    while start < total:
        count = min(count, total - start)
        last = int(takes_last and start + count == total)
        lengths = {**ports.stream_axes(1, (_CELLS, _CELLS)), ports.FRAMES: count}
        given = {ports.CHUNK: edges[..., start : start + count], **states}
        tensors = follow(
            model,
            shapes_for(model, lengths),
            values={ports.FIRST: first, ports.LAST: last},
            axes=("frames",),
            given={name: {"frames": one[:, :, None, None, :, None, None]} for name, one in given.items()},
        )
        parts.append(_along(tensors[ports.RESULT]))
        names = [value.name for value in model.graph.input if ports.is_state(value.name)]
        states = {name: _along(tensors[ports.next_state(name)]) for name in names}
        start, count, first = start + count, 2 * stage.multiple, 0
    return np.concatenate(parts, axis=-1)


def _along(tensor: Tensor) -> Edges:
    edges = edges_along(tensor, "frames")
    return np.full((2, 1, tensor.shape[2]), NOTHING, np.int32) if edges is None else edges
