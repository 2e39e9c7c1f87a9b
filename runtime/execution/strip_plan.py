"""A run in strips as a value: its steps, the size of what each makes, and the tiles in which it makes it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ..bundle.manifest import Graph
from ..bundle.profiles import Profile
from ..bundle.strip_graph import Segment, Window
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
        """What engines built for those profiles take of it: of the first, if there are several; for attention, of
        the first that takes the keys of a picture of so many latent cells."""
        rows, columns, queries = self.rows, self.columns, self.queries
        for graph in graphs:
            segment, built = _segment(graph), profiles(graph)
            chosen = next((one for one in built if _takes(one, positions)), built[0])
            height, width = chosen.ranges["tile"].maximum[-2:]
            if segment.kind == "attention":
                queries = height, width
            else:
                rows = min(rows, segment.result_within(height))
                columns = min(columns, segment.result_within(width))
        return replace(self, rows=rows, columns=columns, queries=queries)


@dataclass(frozen=True)
class Step:
    """One segment of a pass. `source` and `size`: (height, width) of what it reads and of its result; `tiles`: (rows,
    columns) of the result. `groups`: of the norm that its result goes into, 0 if there is none. `channels`: of its
    result."""

    graph: Graph
    segment: Segment
    source: tuple[int, int]
    size: tuple[int, int]
    channels: int
    groups: int
    tiles: tuple[tuple[slice, slice], ...]

    @cached_property
    def windows(self) -> tuple[tuple[Window, Window], ...]:
        """The rows and the columns of the source that each tile reads."""
        down, across = self.source
        return tuple(
            (
                self.segment.window(rows.start, rows.stop, down),
                self.segment.window(columns.start, columns.stop, across),
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
        segment = _segment(graph)
        if segment.index != len(steps):
            raise BundleError(
                f"the bundle lacks step {len(steps)} of the {graph.component}'s exact strips in {graph.dtype}: export "
                f"it again"
            )
        source = sizes[segment.source]
        height, width = (segment.result_length(length) for length in source)
        sizes[segment.index] = height, width
        scale = max(height // cells[0], 1)  # the result's pixels per latent cell; tiles are whole cells
        rows, columns = (max(length // scale, 1) * scale for length in (strip.rows, strip.columns))
        if segment.kind == "attention":
            most = strip.queries or (rows, columns)
            rows, columns = min(rows, height, most[0]), min(columns, width, most[1])
            rows, columns = queries_within(rows, columns, height * width * batch, strip.scores_bytes)
        tiles = tuple((down, across) for down in _pieces(height, rows) for across in _pieces(width, columns))
        channels = graph.outputs[0].shape[2 if segment.kind == "keys" else 1]
        steps.append(Step(graph, segment, source, (height, width), _int(channels), _groups(graphs, segment), tiles))
    return tuple(steps)


def strip_for(
    graphs: Sequence[Graph], ratio: int, width: int, batch: int, budget_bytes: int, columns: int | None = None
) -> int:
    """The pixel rows of a strip, a multiple of `ratio`, of a picture of that width: as many as fit into the budget,
    and no more than help."""
    channels = max(_int(axis) for graph in graphs for axis in (graph.inputs[0].shape[1], graph.outputs[0].shape[1]))
    row_bytes = _ITEM_BYTES * batch * channels * min(columns or width, width)
    rows = min(budget_bytes // _BUFFERS, _BEST_TILE_BYTES) // row_bytes
    return int(max(rows // ratio, 1) * ratio)


def queries_within(rows: int, columns: int, keys: int, scores_bytes: int) -> tuple[int, int]:
    """The tile of queries whose scores, and their softmax, fit."""
    most = max(scores_bytes // (2 * _ITEM_BYTES * keys), 1)
    return (min(rows, most // columns), columns) if most >= columns else (1, most)


def _pieces(length: int, piece: int) -> list[slice]:
    return [slice(start, min(start + piece, length)) for start in range(0, length, piece)]


def _groups(graphs: Sequence[Graph], segment: Segment) -> int:
    for graph in graphs:
        if _segment(graph).source == segment.index:
            for tensor in graph.inputs:
                if tensor.name == "mean":
                    return _int(tensor.shape[1])
    return 0


def _takes(profile: Profile, positions: int) -> bool:
    """Whether a step's profile takes the keys of a whole picture; most steps read none."""
    keys = profile.ranges.get("keys")
    return keys is None or keys.maximum[1] >= positions


def _segment(graph: Graph) -> Segment:
    assert graph.segment is not None
    return graph.segment


def _int(axis: int | str) -> int:
    return axis if isinstance(axis, int) else 0
