"""How many frames a step of a stream takes: what the stages work in, and what engines of them are built for."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..bundle import ports
from ..bundle.graph import Graph, Stage
from ..bundle.profiles import Profile

__all__ = [
    "ENGINE_FRAMES",
    "MOST_ENCODER_FRAMES",
    "MOST_FRAMES",
    "StepFrames",
    "frames_ahead",
    "frames_per_step",
    "frames_within",
    "most_frames",
    "peak_estimate_bytes",
    "stage_frames",
    "step_frames",
    "step_multiple",
    "values_per_cell",
]

MOST_FRAMES = 12
"""The default of the most frames of the clip that a step of a decoder gives. Longer steps gain little
time (benchmarks/streaming.md)."""
ENGINE_FRAMES = 8
"""The most frames that engines are built for by default: those of one latent frame. Their memory is that of the longest
step."""
MOST_ENCODER_FRAMES = 24
"""The same of an encoder, whose deepest layers see an eighth of them."""
_EARLY_SHARE = 0.25
_SEEN_FRAMES = 3  # side by side in the largest tensor of a step (docs/streaming.md)
_LIVE_TENSORS = {"decoder": 4, "encoder": 3}  # of that size, at most, as measured with ONNX Runtime
_LIVE_RESULTS = 2  # the frames that the last stage makes, in addition
_ITEM_BYTES = 4
_KEPT_LENGTHS = 16  # streams often have the size of an earlier one
_KEPT_MULTIPLES = 256  # of stages
_CHUNK_TENSORS = 6  # of a stage's widest layer, at a time, where the caller does not say how long chunks are
_CHUNK_BYTES = 1 << 28  # what those tensors may take together


def most_frames(component: str) -> int:
    """The default of the most frames that a step of this component gives or takes."""
    return MOST_ENCODER_FRAMES if component == "encoder" else MOST_FRAMES


@dataclass(frozen=True)
class StepFrames:
    """The most frames that a stage's first step and its later ones take; later ones take a multiple of `multiple`."""

    first: int
    later: int
    multiple: int

    @classmethod
    def of(cls, graph: Graph, most: int, temporal_ratio: int) -> "StepFrames":
        """The lengths of steps of at most `most` frames. If that gives no result, of the fewest frames that do."""
        stage, multiple = _stage(graph), step_multiple(graph, temporal_ratio)
        begin = int(multiple > 1)  # chunks of 1 + a multiple, then of multiples
        first = max(most, stage.lead, begin + multiple)
        return cls(begin + (first - begin) // multiple * multiple, max(most, multiple) // multiple * multiple, multiple)


@lru_cache(_KEPT_MULTIPLES)
def step_multiple(graph: Graph, temporal_ratio: int) -> int:
    """Steps of a stage over whole frames take a multiple of this number, and the first step one frame more. Stages of
    an encoder take the frames of whole latent frames: chunks of single frames would be many short steps."""
    stage = _stage(graph)
    if graph.component == "decoder":
        return stage.multiple
    return max(stage.multiple, temporal_ratio // stage.ratio)


def stage_frames(graph: Graph, frames: int) -> int:
    """The most frames of a step of a stage, where a step brings at most `frames` frames of the clip."""
    return max(1, frames // _stage(graph).ratio)


def step_frames(graphs: Sequence[Graph], frames: int) -> list[int]:
    """The most frames of a step of each of a component's stages, where a step of the last one brings at most `frames`
    frames of the clip. Those before it, whose frames are smaller, take more where they are there: as many as make
    tensors of `_EARLY_SHARE` of its size, since every step sees the frames around its own once more."""
    if graphs[0].component == "encoder":  # its first stage has the largest frames
        return [stage_frames(graph, frames) for graph in graphs]
    ratios = [_stage(graph).ratio for graph in graphs[1:]] + [1]
    largest = frames * values_per_cell(graphs[-1])

    def most(graph: Graph, given: int) -> int:
        made = values_per_cell(graph) * _stage(graph).ratio // given  # per frame that goes in
        return max(stage_frames(graph, frames), int(_EARLY_SHARE * largest / made))

    return [most(graph, given) for graph, given in zip(graphs[:-1], ratios[:-1], strict=True)] + [
        stage_frames(graphs[-1], frames)
    ]


@lru_cache(_KEPT_LENGTHS)
def frames_per_step(
    graphs: tuple[Graph, ...], frames_per_chunk: int | None, cells: int, temporal_ratio: int
) -> tuple[int, ...]:
    """The most frames of a step of each stage, over `cells` latent cells of height and width, times the batch.

    Without `frames_per_chunk` a step brings as many frames of the clip as keep the widest layers within 256 MiB, and
    at least those of one latent frame.
    """
    if not frames_per_chunk:
        widest = max(map(values_per_cell, graphs))
        fitting = _CHUNK_BYTES // max(1, _CHUNK_TENSORS * _ITEM_BYTES * widest * cells)
        frames_per_chunk = min(max(fitting, temporal_ratio), most_frames(graphs[0].component))
    return tuple(step_frames(graphs, frames_per_chunk))


def values_per_cell(graph: Graph) -> int:
    """The elements of a stage's widest layer for each frame and latent cell."""
    return max(_values(tensor.shape) for tensor in graph.outputs[1:])


@lru_cache(_KEPT_LENGTHS)
def peak_estimate_bytes(graphs: tuple[Graph, ...], frames: tuple[int, ...], cells: int) -> int:
    """An upper estimate of what one step of a stream holds at once, without the states: of stages whose steps take so
    many frames, over `cells` latent cells of height and width, times the batch."""
    last = graphs[-1]
    widest = max(values_per_cell(graph) * most for graph, most in zip(graphs, frames, strict=True))
    made = _values(last.outputs[0].shape) * frames[-1] * _stage(last).ratio
    live = _LIVE_TENSORS[last.component] * _SEEN_FRAMES * widest + _LIVE_RESULTS * made
    return _ITEM_BYTES * live * cells


def frames_ahead(graphs: Iterable[Graph]) -> int:
    """About how many frames of the clip a component's stages take in before the last one gives any. Each stage holds
    back one frame less than its first chunk needs."""
    stages = [_stage(graph) for graph in graphs]
    return sum((stage.lead - 1) * stage.ratio for stage in stages) + max((stage.ratio for stage in stages), default=0)


def frames_within(
    graph: Graph, profiles: Sequence[Profile], most: int, batch: int, tiles: Iterable[tuple[int, int]]
) -> int:
    """The most frames of a step, at most `most`, that engines of a stage take between a clip's ends, in `tiles` of
    (height, width) latent cells: fewer are as exact. What is no engine's size is refused by the call itself."""
    chunk = next(tensor for tensor in graph.inputs if tensor.name == ports.CHUNK)
    between = [profile.ranges[ports.CHUNK] for profile in profiles if profile.ranges[ports.FIRST].maximum == (0,)]
    for height, width in tiles:
        shape = chunk.shape_for(ports.stream_axes(batch, (height, width), frames=1))
        holding = [of.maximum[2] for of in between if of.holds((*shape[:2], of.maximum[2], *shape[3:]))]
        most = min(most, max(holding, default=most))
    return most


def _values(shape: Sequence[int | str]) -> int:
    scales = [int(axis.partition("*")[0]) if "*" in axis else 1 for axis in shape[3:] if isinstance(axis, str)]
    return int(shape[1]) * math.prod(scales)


def _stage(graph: Graph) -> Stage:
    assert graph.stage is not None
    return graph.stage
