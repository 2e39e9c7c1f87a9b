"""How many frames a step of a stream takes: what the stages work in, and what engines of them are built for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .manifest import Graph
from .profiles import Profile

__all__ = [
    "MOST_ENCODER_FRAMES",
    "MOST_FRAMES",
    "StepFrames",
    "frames_ahead",
    "frames_within",
    "most_frames",
    "stage_frames",
]

MOST_FRAMES = 8
"""The most frames of the clip that a step of a decoder brings where the caller does not say: those of one latent frame.
Longer ones gain no time and come about at a clip's ends only, where they hold the most."""
MOST_ENCODER_FRAMES = 24
"""The same of an encoder, whose deepest layers see an eighth of them."""


def most_frames(component: str) -> int:
    """The most frames that a step of this component brings where the caller does not say."""
    return MOST_ENCODER_FRAMES if component == "encoder" else MOST_FRAMES


@dataclass(frozen=True)
class StepFrames:
    """The most frames that a stage's first step and its later ones take; later ones take a multiple of `multiple`."""

    first: int
    later: int
    multiple: int

    @classmethod
    def of(cls, graph: Graph, most: int) -> "StepFrames":
        """For steps of at most `most` frames, or of the fewest out of which something comes."""
        assert graph.stage is not None
        multiple = graph.stage.multiple
        begin = int(multiple > 1)  # chunks of 1 + a multiple, then of multiples
        first = max(most, graph.stage.lead, begin + multiple)
        return cls(begin + (first - begin) // multiple * multiple, max(most, multiple) // multiple * multiple, multiple)


def stage_frames(graph: Graph, frames: int) -> int:
    """The most frames of a step of a stage, where a step brings at most `frames` frames of the clip."""
    assert graph.stage is not None
    return max(1, frames // graph.stage.ratio)


def frames_ahead(graphs: Iterable[Graph]) -> int:
    """About how many frames of the clip a component's stages take in before the last one gives any."""
    return sum(graph.stage.lead * graph.stage.ratio for graph in graphs if graph.stage is not None)


def frames_within(
    graph: Graph, profiles: Sequence[Profile], most: int, batch: int, tiles: Iterable[tuple[int, int]]
) -> int:
    """The most frames of a step, at most `most`, that engines of a stage take between a clip's ends, in `tiles` of
    (height, width) latent cells: fewer are as exact. What is no engine's size is refused by the call itself."""
    chunk = next(tensor for tensor in graph.inputs if tensor.name == "chunk")
    between = [profile.ranges["chunk"] for profile in profiles if profile.ranges["first"].maximum == (0,)]
    for height, width in tiles:
        shape = chunk.shape_for({"batch": batch, "frames": 1, "height": height, "width": width})
        holding = [of.maximum[2] for of in between if of.holds((*shape[:2], of.maximum[2], *shape[3:]))]
        most = min(most, max(holding, default=most))
    return most
