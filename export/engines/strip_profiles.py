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

_SCORES_BYTES = 1 << 29  # Attention's scores for all queries of one call: the engine reserves this memory.
_ZEROS = ShapeRange(
    (0,), (0,), (1,)
)  # Values, not lengths: rows or columns of zeros at a side, 1 at the picture's end.


def strip_profiles(config: ModelConfig, graph: Graph, settings: BuildSettings) -> tuple[Profile, ...]:
    """The profiles of one stage, one per tile: for strips of at most the tile's height and width, of pictures of at
    most `settings.picture`. With `static` they still begin small, because strips at a picture's end are smaller.

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
    """Tiles of the result of at most `tile`. The smallest tile has two rows, with the rows around it: a single row
    would come from a picture one row high. With zeros at every side the largest tile has two rows more than a call
    needs."""
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
    """The keys of a tile; or as many queries over all positions of the picture as keep the scores below their limit."""
    size = tile.height, tile.width
    if stage.kind == "attention":
        size = queries_within(*size, positions * tile.batch, _SCORES_BYTES)
    names = (ports.BATCH, ports.TILE_ROWS, ports.TILE_COLUMNS, ports.POSITIONS)
    least, most = dict.fromkeys(names, 1), dict(zip(names, (tile.batch, *size, positions), strict=True))
    return Profile({one.name: ShapeRange(one.shape_for(least), *[one.shape_for(most)] * 2) for one in graph.inputs})
