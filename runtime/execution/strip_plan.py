"""A run in strips as a value: its steps, the size of what each makes, and the tiles in which it makes it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ..bundle import ports
from ..bundle.graph import Graph
from ..bundle.profiles import Profile
from ..bundle.strip_stage import PaddedRange, StripStage
from ..errors import BundleError

__all__ = ["Step", "StripSize", "plan_steps", "queries_within", "strip_for"]

_BUFFERS = 6  # of a tile's size that an engine call holds: its inputs, its result, and what lies between
_BEST_TILE_BYTES = 48 << 20  # of one step's result: larger ones only take memory (benchmarks/exact-strips.md)
_ITEM_BYTES = 4


@dataclass(frozen=True)
class StripSize:
    """`rows`, `columns`: of a tile, in pixels, at every resolution of the model. `scores_bytes`: what the scores of
    attention may take in one engine call. `queries`: the most (rows, columns) of them in one, if that is limited."""

    rows: int
    columns: int
    scores_bytes: int
    queries: tuple[int, int] | None = None

    def within(
        self, graphs: Sequence[Graph], profiles: Callable[[Graph], tuple[Profile, ...]], positions: int
    ) -> "StripSize":
        """This size, limited to what engines that were built for those profiles take.

        The first profile counts if there are several. For attention it is the first profile that takes the keys of a
        picture of so many latent cells.
        """
        rows, columns, queries = self.rows, self.columns, self.queries
        for graph in graphs:
            stage, built = _stage(graph), profiles(graph)
            chosen = next((one for one in built if _takes(one, positions)), built[0])
            height, width = chosen.ranges[ports.TILE].maximum[-2:]
            if stage.kind == "attention":
                queries = height, width
            else:
                rows = min(rows, stage.result_within(height))
                columns = min(columns, stage.result_within(width))
        return replace(self, rows=rows, columns=columns, queries=queries)


@dataclass(frozen=True)
class Step:
    """One stage of a pass in strips, and its tiles.

    Attributes:
        graph: the stage's graph.
        stage: what the stage reads and adds.
        source, size: (height, width) of what the stage reads, and of its result.
        channels: of the result.
        groups: of the norm that reads the result; 0 if no norm does.
        tiles: (rows, columns) of the result.
    """

    graph: Graph
    stage: StripStage
    source: tuple[int, int]
    size: tuple[int, int]
    channels: int
    groups: int
    tiles: tuple[tuple[slice, slice], ...]

    @cached_property
    def windows(self) -> tuple[tuple[PaddedRange, PaddedRange], ...]:
        """The rows and the columns of the source that each tile reads."""
        down, across = self.source
        return tuple(
            (
                self.stage.window(rows.start, rows.stop, down),
                self.stage.window(columns.start, columns.stop, across),
            )
            for rows, columns in self.tiles
        )


def plan_steps(
    graphs: Sequence[Graph], size: tuple[int, int], cells: tuple[int, int], batch: int, strip: StripSize
) -> tuple[Step, ...]:
    """The steps of a pass over an input of `size`, a batch of that many pictures whose latents have `cells`.

    Raises:
        BundleError: a step is missing.
    """
    sizes = {-1: size}
    steps: list[Step] = []
    for graph in graphs:
        stage = _stage(graph)
        if stage.index != len(steps):
            raise BundleError(
                f"the bundle lacks step {len(steps)} of the {graph.component}'s strips in {graph.dtype}: export "
                f"it again"
            )
        source = sizes[stage.source]
        height, width = (stage.result_length(length) for length in source)
        sizes[stage.index] = height, width
        scale = max(height // cells[0], 1)  # the result's pixels per latent cell; tiles are whole cells
        rows, columns = (max(length // scale, 1) * scale for length in (strip.rows, strip.columns))
        if stage.kind == "attention":
            most = strip.queries or (rows, columns)
            rows, columns = min(rows, height, most[0]), min(columns, width, most[1])
            rows, columns = queries_within(rows, columns, height * width * batch, strip.scores_bytes)
        tiles = tuple((down, across) for down in _pieces(height, rows) for across in _pieces(width, columns))
        channels = graph.outputs[0].shape[2 if stage.kind == "keys" else 1]
        steps.append(Step(graph, stage, source, (height, width), _int(channels), _groups(graphs, stage), tiles))
    return tuple(steps)


def strip_for(
    graphs: Sequence[Graph], ratio: int, width: int, batch: int, budget_bytes: int, columns: int | None = None
) -> int:
    """The pixel rows of a strip of a picture of that width, a multiple of `ratio`.

    As many rows as fit into the budget, and no more than `_BEST_TILE_BYTES` allows: larger strips are not faster.
    """
    channels = max(_int(axis) for graph in graphs for axis in (graph.inputs[0].shape[1], graph.outputs[0].shape[1]))
    row_bytes = _ITEM_BYTES * batch * channels * min(columns or width, width)
    rows = min(budget_bytes // _BUFFERS, _BEST_TILE_BYTES) // row_bytes
    return int(max(rows // ratio, 1) * ratio)


def queries_within(rows: int, columns: int, keys: int, scores_bytes: int) -> tuple[int, int]:
    """The largest tile of queries whose scores and softmax fit into `scores_bytes`."""
    most = max(scores_bytes // (2 * _ITEM_BYTES * keys), 1)
    return (min(rows, most // columns), columns) if most >= columns else (1, most)


def _pieces(length: int, piece: int) -> list[slice]:
    return [slice(start, min(start + piece, length)) for start in range(0, length, piece)]


def _groups(graphs: Sequence[Graph], stage: StripStage) -> int:
    for graph in graphs:
        if _stage(graph).source == stage.index:
            for tensor in graph.inputs:
                if tensor.name == ports.MEAN:
                    return _int(tensor.shape[1])
    return 0


def _takes(profile: Profile, positions: int) -> bool:
    """Whether a step's profile takes the keys of a whole picture; most steps read none."""
    keys = profile.ranges.get(ports.KEYS)
    return keys is None or keys.maximum[1] >= positions


def _stage(graph: Graph) -> StripStage:
    assert graph.strip_stage is not None
    return graph.strip_stage


def _int(axis: int | str) -> int:
    return axis if isinstance(axis, int) else 0
