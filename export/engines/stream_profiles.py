"""The profiles of the graphs that run a clip chunk by chunk."""

from collections.abc import Mapping
from itertools import product

from ...runtime.bundle import ports
from ...runtime.bundle.graph import Graph
from ...runtime.bundle.profiles import Profile, ShapeRange
from ...runtime.config.model_config import ModelConfig
from ...runtime.errors import InputError
from ...runtime.execution.stream_lengths import StepFrames, stage_frames
from .planning import sample_sizes
from .settings import BuildSettings, Extent

__all__ = ["stream_profiles"]

_Flag = tuple[int, int, int]  # the smallest, the usual and the largest value of an input that is 0 or 1
_LATER, _ANY, _FIRST = (0, 0, 0), (0, 0, 1), (1, 1, 1)


def stream_profiles(config: ModelConfig, graph: Graph, settings: BuildSettings) -> tuple[Profile, ...]:
    """The profiles of a stage: two for each tile, for chunks of at most `settings.chunk` frames of the clip.

    One profile is for the first and the last chunk, the other for the chunks between. In an encoder, the first chunk
    has 1 + a multiple of frames and later chunks have a multiple, and no range holds both. A decoder takes any number
    of frames. But if `first` and `last` may be 1, the library's bounds on the number of frames grow from layer to
    layer, and so does the memory that it plans for. For LTX-2's last stage with 8 frames of 768x512 that is 4.9 GB of
    activations, instead of 1.3 GB for the chunks between (TensorRT-RTX 1.7.1).

    Raises:
        InputError: a height or width off the model's grid.
    """
    frames = StepFrames.of(graph, stage_frames(graph, settings.chunk), config.temporal_ratio)
    takes_last = any(tensor.name == ports.LAST for tensor in graph.inputs)
    ends = (1, frames.first, frames.first), {ports.FIRST: _ANY if takes_last else _FIRST, ports.LAST: _ANY}
    fewest = graph.stage.multiple if graph.stage else 1  # strips take fewer frames than other streams
    between = (fewest, frames.later, frames.later), {ports.FIRST: _LATER, ports.LAST: _LATER}
    sizes = sample_sizes(config, settings)
    return tuple(_profile(config, graph, triple, *kind) for triple, kind in product(sizes, (ends, between)))


def _profile(
    config: ModelConfig,
    graph: Graph,
    triple: tuple[Extent, Extent, Extent],
    frames: tuple[int, int, int],
    flags: Mapping[str, _Flag],
) -> Profile:
    sizes = [_sizes(config, extent, length) for extent, length in zip(triple, frames, strict=True)]
    ranges = {}
    for tensor in graph.inputs:
        if tensor.name in flags:  # its values decide how many frames come out
            ranges[tensor.name] = ShapeRange(*((value,) for value in flags[tensor.name]))
        else:
            ranges[tensor.name] = ShapeRange(*(tensor.shape_for(of) for of in sizes))
    return Profile(ranges)


def _sizes(config: ModelConfig, extent: Extent, frames: int) -> dict[str, int]:
    """The sizes of a streaming graph's named axes: height and width count latent cells."""
    ratio = config.spatial_ratio
    if extent.height % ratio or extent.width % ratio:
        raise InputError(
            f"a stream's height and width are multiples of {ratio} pixels, got {extent.height}x{extent.width}"
        )
    return ports.stream_axes(extent.batch, (extent.height // ratio, extent.width // ratio), frames)
