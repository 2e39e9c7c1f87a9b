"""From sample sizes to the profiles of each graph that runs a whole sample at once."""

from collections.abc import Mapping
from dataclasses import replace

from ...runtime.arrays.grid import Grid
from ...runtime.bundle import ports
from ...runtime.bundle.graph import Graph
from ...runtime.bundle.profiles import Profile, ShapeRange
from ...runtime.config.model_config import ModelConfig
from ...runtime.errors import InputError
from .settings import BuildSettings, Extent

__all__ = ["default_tile", "plan_profiles", "sample_sizes"]


def default_tile(config: ModelConfig) -> tuple[int, ...]:
    """The tile to build for by default, (height, width) or (height, width, frames): 512x512 pixels, and 17 frames."""
    return (512, 512, 17) if config.video else (512, 512)


def plan_profiles(config: ModelConfig, graph: Graph, settings: BuildSettings) -> tuple[Profile, ...]:
    """The profiles of one graph: one per tile, or per (min, opt, max) of explicit shapes.

    Raises:
        InputError: a size off the model's grid, or a minimum above its maximum.
    """
    grid = Grid.of(config)
    return tuple(_profile(config, graph, grid, triple) for triple in sample_sizes(config, settings))


def sample_sizes(config: ModelConfig, settings: BuildSettings) -> tuple[tuple[Extent, Extent, Extent], ...]:
    """The smallest, best and largest sample of each profile.

    Raises:
        InputError: a minimum above its maximum, or an empty axis.
    """
    grid = Grid.of(config)
    if settings.shapes:
        triples = settings.shapes
    else:
        cells = [max(grid.encoder_minimum, grid.decoder_minimum)] * 2
        least = Extent(1, *grid.sample_size((*((1,) if grid.video else ()), *cells))[-2:])
        tiles = [_whole_cells(tile, grid) for tile in settings.tiles or (Extent(1, *default_tile(config)),)]
        triples = tuple((tile if settings.static else least, tile, tile) for tile in tiles)
    for low, best, high in triples:
        for axis in ("batch", "frames", "height", "width"):
            if not 1 <= getattr(low, axis) <= getattr(best, axis) <= getattr(high, axis):
                raise InputError(
                    f"a profile wants 1 <= min <= opt <= max on every axis, got {axis} {getattr(low, axis)}, "
                    f"{getattr(best, axis)}, {getattr(high, axis)}"
                )
    return triples


def _whole_cells(tile: Extent, grid: Grid) -> Extent:
    """The tile with a legal number of frames: N frames become N // ratio + 1 latent frames, as everywhere in tiling."""
    if not grid.video:
        return tile
    return replace(tile, frames=tile.frames // grid.temporal * grid.temporal + 1)


def _profile(config: ModelConfig, graph: Graph, grid: Grid, triple: tuple[Extent, Extent, Extent]) -> Profile:
    sizes = [_axis_sizes(config, grid, extent) for extent in triple]
    ranges = {}
    for tensor in graph.inputs:
        ranges[tensor.name] = ShapeRange(*(tensor.shape_for(of) for of in sizes))
    return Profile(ranges)


def _axis_sizes(config: ModelConfig, grid: Grid, extent: Extent) -> Mapping[str, int]:
    """The size of every named axis of the graphs' inputs."""
    if not grid.video and extent.frames != 1:
        raise InputError(f"{config.family} is an image model: give HEIGHTxWIDTH, got {extent.frames} frames as well")
    sample = (*((extent.frames,) if grid.video else ()), extent.height, extent.width)
    legal, cells = grid.padded_size(sample), grid.latent_size(sample)
    if legal != sample:
        raise InputError(
            f"no tile of {config.family} has {grid.axes} = {sample}: the next larger one that fits its grid is {legal}"
        )
    return ports.whole_axes(extent.batch, sample, cells, config.noise_stacks)
