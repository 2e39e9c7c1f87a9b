"""The pieces of height and width in which a stage of a stream runs, so that its results are those of whole frames.

A stage runs over windows. The results that are `halo` units or more away from a window's inner edges are those of the
whole frame, and are kept. A unit is a row or a column of the stage's coarsest input or result. All windows of a stage
have one size.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from ..bundle import ports
from ..bundle.graph import Graph, TensorInfo
from ..bundle.profiles import Profile
from .stream_lengths import most_frames, stage_frames, step_frames, values_per_cell

__all__ = [
    "PART_FOR_STEPS",
    "PART_FOR_WAITING",
    "Piece",
    "StagePieces",
    "Tile",
    "axis_factors",
    "most_units",
    "pieces_along",
    "plan_pieces",
    "units_per_cell",
]

_ITEM_BYTES = 4
_LIVE = {"decoder": 12, "encoder": 11.5}  # frames of the widest layer that a step holds, per frame that it takes:
# measured with ONNX Runtime, at most 10.7 in an encoder's stages (0, 1, 5, 7 and 9 at a quarter of LTX-2.0's width)
_LIVE_AROUND = {"decoder": 2, "encoder": 0}  # frames that count in addition to those that a step takes
_FRAMES_AROUND = 2  # of each layer's state
PART_FOR_STEPS, PART_FOR_WAITING = 0.4, 0.45
"""Of the budget: what one step may hold, and the states and frames that wait. The rest is for the clip's frames."""
_STEP_COST = 0.35  # a step costs as much as this many frames more: its states are read and written
_PARTS_OF_CHUNKS = (1, 2, 3, 6, 12)  # the parts of the longest step that are looked at
_MOST_COLUMN_PIECES = 16
_KEPT_PLANS = 16


@dataclass(frozen=True)
class Piece:
    """`window`: the units that are read. `own`: the units whose results are kept."""

    window: slice
    own: slice


@dataclass(frozen=True)
class Tile:
    """The rows and the columns of one engine call."""

    rows: Piece
    columns: Piece


@dataclass(frozen=True)
class StagePieces:
    """How one stage runs.

    Attributes:
        graph: the stage's graph.
        frames: the most frames of a step.
        size: units of height and width of a whole frame.
        tiles: the pieces; one if a step takes whole frames.
        step_bytes: an upper estimate of what a step holds.
    """

    graph: Graph
    frames: int
    size: tuple[int, int]
    tiles: tuple[Tile, ...]
    step_bytes: int


def axis_factors(tensor: TensorInfo) -> dict[str, tuple[int, int]]:
    """By "height" and "width": the index of a tensor's axis, and its positions per latent cell."""
    found = {}
    for index, axis in enumerate(tensor.shape):
        if isinstance(axis, str):
            factor, _, name = axis.rpartition("*")
            if name in (ports.HEIGHT, ports.WIDTH):
                found[name] = index, int(factor or 1)
    return found


def units_per_cell(graph: Graph) -> int:
    """The rows of the coarsest input or result of a stage per latent cell."""
    factors = [axis_factors(tensor).values() for tensor in (*graph.inputs, *graph.outputs)]
    return min(factor for own in factors for _, factor in own)


def most_units(graph: Graph, profiles: Sequence[Profile]) -> tuple[int, int, int]:
    """The frames, and the units of height and width, that engines of these profiles take: those of the largest one."""
    chunk = next(tensor for tensor in graph.inputs if tensor.name == ports.CHUNK)
    factor = axis_factors(chunk)[ports.HEIGHT][1] // units_per_cell(graph)
    largest = max((profile.ranges[ports.CHUNK].maximum for profile in profiles), key=prod)
    return largest[2], largest[3] // factor, largest[4] // factor


def pieces_along(length: int, window: int, halo: int) -> tuple[Piece, ...]:
    """Windows of one size that cover an axis, as few as possible and at most `window` units long."""
    if length <= window:
        return (Piece(slice(0, length), slice(0, length)),)
    count = -(-(length - 2 * halo) // max(window - 2 * halo, 1))
    own = -(-(length - 2 * halo) // count)
    size, pieces, done = own + 2 * halo, [], 0
    for index in range(count):
        start = min(index * own, length - size)
        stop = length if index == count - 1 else start + size - halo
        pieces.append(Piece(slice(start, start + size), slice(done, stop)))
        done = stop
    return tuple(pieces)


@lru_cache(_KEPT_PLANS)
def plan_pieces(
    graphs: tuple[Graph, ...],
    cells: tuple[int, int],
    batch: int,
    *,
    budget_bytes: int,
    strip: tuple[int, int | None] | None,
    frames_per_chunk: int | None,
    item_bytes: int = _ITEM_BYTES,
    gathers: bool = True,
    most: tuple[tuple[int, int, int], ...] | None = None,
) -> tuple[StagePieces, ...]:
    """The pieces of each stage of a stream over latents of `cells`.

    Args:
        graphs: the stages, in their order.
        cells: latent height and width.
        batch: the batch size.
        budget_bytes: what a step may hold. The smallest pieces may hold more.
        strip: rows and columns (None: all) that a piece of the last stage keeps, in latent cells. The pieces of the
            other stages then hold as much as that piece. None: as the budget allows.
        frames_per_chunk: the most frames of the clip that a step brings. None: what costs least.
        item_bytes: of a value of the frames that the last stage gives.
        gathers: whether the first stage of an encoder waits for the frames of a step. False: the caller has them.
        most: by stage, the frames of its input, and the units of height and width, that its engines take at most.
            None: any.
    """
    finest = max(graphs, key=lambda graph: (units_per_cell(graph), graph.stage.index if graph.stage else 0))
    if strip is not None:
        chunk = frames_per_chunk or _frames_per_chunk(graphs, None)[0]
        window = _strip_window(finest, cells, strip)
        scale = _scales(graphs)[graphs.index(finest)]
        budget_bytes = _step_bytes(finest, scale, batch, stage_frames(finest, chunk), *window)
        frames_per_chunk = chunk
    # Whole frames of the clip are held outside of pieces: a decoder's last stage makes them, and an encoder's first
    # stage gathers them. They count as a part of its step.
    if graphs[0].component == "decoder":
        edge, clip_bytes = graphs[-1], _frame_bytes(graphs[-1].outputs[0], cells, batch, item_bytes)
    else:
        edge, clip_bytes = graphs[0], _frame_bytes(graphs[0].inputs[0], cells, batch, _ITEM_BYTES if gathers else 0)
    return tuple(
        _planned(
            graph,
            scale,
            cells,
            batch,
            budget_bytes,
            frames,
            strip if graph is finest else None,
            limit,
            clip_bytes if graph is edge else 0,
        )
        for graph, scale, frames, limit in zip(
            graphs,
            _scales(graphs),
            _frames(graphs, frames_per_chunk),
            most or [None] * len(graphs),
            strict=True,
        )
    )


def _frames_per_chunk(graphs: Sequence[Graph], given: int | None) -> tuple[int, ...]:
    """The frames of the clip per step that are looked at, the most first."""
    largest = given or most_frames(graphs[0].component)
    return tuple(dict.fromkeys(max(largest // part, 1) for part in _PARTS_OF_CHUNKS))


def _frame_bytes(tensor: TensorInfo, cells: tuple[int, int], batch: int, item_bytes: int) -> int:
    """The bytes of a whole frame of a tensor."""
    factor = prod(own for _, own in axis_factors(tensor).values())
    return batch * item_bytes * int(tensor.shape[1]) * factor * prod(cells)


def _frames(graphs: Sequence[Graph], given: int | None) -> list[tuple[int, ...]]:
    """By stage, the frames of a step that are looked at."""
    steps = [step_frames(graphs, frames) for frames in _frames_per_chunk(graphs, given)]
    return [tuple(dict.fromkeys(frames)) for frames in zip(*steps, strict=True)]


def _scales(graphs: Sequence[Graph]) -> list[int]:
    """By stage, the frames of its result per frame that goes in, or 1 if those are fewer, as in encoders."""
    if graphs[0].component == "encoder":
        return [1] * len(graphs)
    ratios = [graph.stage.ratio if graph.stage else 1 for graph in graphs]
    return [max(own // after, 1) for own, after in zip(ratios, [*ratios[1:], 1], strict=True)]


def _strip_window(graph: Graph, cells: tuple[int, int], strip: tuple[int, int | None]) -> tuple[int, int]:
    units, halo = units_per_cell(graph), graph.halo or 0
    rows = min(strip[0] * units + 2 * halo, cells[0] * units)
    columns = cells[1] * units if strip[1] is None else min(strip[1] * units + 2 * halo, cells[1] * units)
    return rows, columns


def _planned(
    graph: Graph,
    scale: int,
    cells: tuple[int, int],
    batch: int,
    budget_bytes: int,
    lengths: Iterable[int],
    strip: tuple[int, int | None] | None,
    most: tuple[int, int, int] | None,
    frame_bytes: int,
) -> StagePieces:
    units, halo = units_per_cell(graph), graph.halo or 0
    height, width = (length * units for length in cells)
    best: tuple[tuple[float, ...], StagePieces] | None = None
    for frames in lengths if most is None else [min(length, most[0]) for length in lengths]:
        left = budget_bytes - frame_bytes * frames
        for columns in _widths(width, halo, strip, units, most):
            rows = _most_rows(_step_bytes(graph, scale, batch, frames, 1, columns), halo, left, height)
            if strip is not None:
                rows = min(strip[0] * units + 2 * halo, height)
            if most is not None:
                rows = min(rows, most[1])
            down, across = pieces_along(height, rows, halo), pieces_along(width, columns, halo)
            tile = _length(down[0].window), _length(across[0].window)
            held = _step_bytes(graph, scale, batch, frames, *tile) + frame_bytes * frames
            over = len(down) * tile[0] * len(across) * tile[1] / (height * width)
            tiles = tuple(Tile(row, column) for row in down for column in across)
            found = StagePieces(graph, frames, (height, width), tiles, held)
            cost = (max(held / budget_bytes, 1.0) if budget_bytes else held, over * (1 + _STEP_COST / frames))
            if best is None or cost < best[0]:
                best = cost, found
    assert best is not None
    return best[1]


def _widths(
    width: int, halo: int, strip: tuple[int, int | None] | None, units: int, most: tuple[int, int, int] | None
) -> list[int]:
    """The widths of windows that are looked at, the whole width first."""
    if strip is not None:
        return [width if strip[1] is None else min(strip[1] * units + 2 * halo, width)]
    widths = [width]
    for count in range(2, _MOST_COLUMN_PIECES + 1):
        own = -(-(width - 2 * halo) // count)
        if own < max(halo, 1):
            break
        widths.append(own + 2 * halo)
    return widths if most is None else [min(one, most[2]) for one in widths]


def _most_rows(row_bytes: int, halo: int, budget_bytes: int, height: int) -> int:
    """The rows of a window that the budget allows, or else the fewest."""
    return min(max(budget_bytes // row_bytes, 2 * halo + 1), height)


@lru_cache(256)
def _step_bytes(graph: Graph, scale: int, batch: int, frames: int, rows: int, columns: int) -> int:
    """An upper estimate of what a step over a window of so many units holds.

    It counts what the engine computes with, the piece of the frames, the states before and after, and the result.
    """
    assert graph.stage is not None
    units = units_per_cell(graph)
    frames = max(frames, graph.stage.lead, graph.stage.multiple + 1 if graph.stage.multiple > 1 else 1)
    live = _LIVE[graph.component] * (scale * frames + _LIVE_AROUND[graph.component])
    values = live * values_per_cell(graph) / units**2
    for tensor in graph.inputs:
        own = prod(factor for _, factor in axis_factors(tensor).values()) / units**2
        if ports.is_state(tensor.name):
            values += 2 * own * _FRAMES_AROUND * int(tensor.shape[1])
        elif tensor.name == ports.CHUNK:
            values += own * frames * int(tensor.shape[1])
    result = graph.outputs[0]
    made = prod(factor for _, factor in axis_factors(result).values()) / units**2
    values += made * scale * frames * int(result.shape[1])
    return int(_ITEM_BYTES * batch * values * rows * columns)


def _length(part: slice) -> int:
    return int(part.stop - part.start)
