"""The profiles of the stages of strips."""

from ...runtime.bundle import ports
from ...runtime.bundle.graph import Graph
from ...runtime.bundle.profiles import Profile, ShapeRange
from ...runtime.bundle.strip_stage import StripStage
from ...runtime.config.model_config import ModelConfig
from ...runtime.errors import InputError
from ...runtime.execution.strip_plan import queries_within
from .planning import sample_sizes
from .settings import BuildSettings, Extent

__all__ = ["strip_profiles"]

_SCORES_BYTES = 1 << 29  # the memory of attention scores, for all queries of a call, that an engine reserves
_ZEROS = ShapeRange((0,), (0,), (1,))  # rows or columns of zeros at a side, by their values: 1 at the picture's end


def strip_profiles(config: ModelConfig, graph: Graph, settings: BuildSettings) -> tuple[Profile, ...]:
    """The profiles of one step of strips: one for each tile, which is the largest strip of that profile.

    `settings.picture` is the largest picture. With `static` a profile still begins small, since the strips at a
    picture's end may be small.

    Raises:
        InputError: a tile or a picture off the model's grid.
    """
    assert graph.strip_stage is not None
    ratio = config.spatial_ratio
    picture = settings.picture
    for height, width in (picture, *((high.height, high.width) for _, _, high in sample_sizes(config, settings))):
        if height % ratio or width % ratio:
            raise InputError(f"strips and pictures are multiples of {ratio} pixels, got {height}x{width}")
    positions = picture[0] // ratio * (picture[1] // ratio)
    kind = _convolution if graph.strip_stage.kind == "convolution" else _positions
    return tuple(kind(graph, graph.strip_stage, high, positions) for _, _, high in sample_sizes(config, settings))


def _convolution(graph: Graph, stage: StripStage, tile: Extent, positions: int) -> Profile:
    """Result tiles of at most `tile`.

    The smallest source has two rows, the result row and a row around it: a single row comes only from a picture of one
    row. The largest, with zeros at every side, gives two rows more than any call asks for.
    """
    rows, columns = (stage.window(length, 2 * length, 8 * length) for length in (tile.height, tile.width))
    largest = rows.stop - rows.start, columns.stop - columns.start
    sizes = (
        _sizes(1, (2, 2), (1, 1)),
        _sizes(tile.batch, largest, (tile.height, tile.width)),
        _sizes(tile.batch, largest, (tile.height + 2, tile.width + 2)),
    )
    ranges = {
        tensor.name: _ZEROS if tensor.dtype == "int64" else ShapeRange(*(tensor.shape_for(of) for of in sizes))
        for tensor in graph.inputs
    }
    return Profile(ranges)


def _sizes(batch: int, source: tuple[int, int], result: tuple[int, int]) -> dict[str, int]:
    """The lengths of the named axes of a convolution's stage."""
    names = (ports.TILE_ROWS, ports.TILE_COLUMNS, ports.RESULT_ROWS, ports.RESULT_COLUMNS)
    return {ports.BATCH: batch, **dict(zip(names, (*source, *result), strict=True))}


def _positions(graph: Graph, stage: StripStage, tile: Extent, positions: int) -> Profile:
    """Keys of one tile, and as many queries as keep the scores over all positions of the picture within their limit."""
    size = tile.height, tile.width
    if stage.kind == "attention":
        size = queries_within(*size, positions * tile.batch, _SCORES_BYTES)
    names = (ports.BATCH, ports.TILE_ROWS, ports.TILE_COLUMNS, ports.POSITIONS)
    least, most = dict.fromkeys(names, 1), dict(zip(names, (tile.batch, *size, positions), strict=True))
    return Profile({one.name: ShapeRange(one.shape_for(least), *[one.shape_for(most)] * 2) for one in graph.inputs})
