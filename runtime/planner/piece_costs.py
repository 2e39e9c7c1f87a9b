"""What a stream in strips takes. The pieces of its steps are planned as they will run, and a small stream that was
measured says what the open engines hold and how long a frame takes."""

from collections.abc import Sequence
from math import prod

from ..bundle import ports
from ..bundle.graph import Graph, TensorInfo
from ..calls.strip_settings import StripSettings
from ..calls.workload import Workload
from ..execution.piece_plan import (
    PART_FOR_STEPS,
    PART_FOR_WAITING,
    StagePieces,
    axis_factors,
    plan_pieces,
    units_per_cell,
)
from .tuning import DISK_BYTES_PER_SECOND

__all__ = ["piece_bytes", "piece_seconds"]

_ITEM_BYTES = 4


def piece_bytes(
    graphs: tuple[Graph, ...], work: Workload, settings: StripSettings, frames_per_chunk: int | None
) -> int:
    """An upper estimate of what a call holds in addition to the open engines, its input and its result.

    Args:
        graphs: the stages, in their order.
        work: the call.
        settings: the strips, with a budget.
        frames_per_chunk: as in `plan_pieces`.
    """
    stages = _stages(graphs, work, settings, frames_per_chunk)
    waiting = min(_waiting_bytes(stages, work.batch), int(PART_FOR_WAITING * settings.budget_bytes))
    last = stages[-1]
    # The chunk that is made counts as a part of its step. The caller holds the chunk before it.
    made = _frame_values(last, graphs[-1].outputs[0]) * work.batch
    return max(stage.step_bytes for stage in stages) + waiting + _item_bytes(work) * made * _most_frames(last)


def piece_seconds(
    graphs: tuple[Graph, ...],
    work: Workload,
    settings: StripSettings,
    frames_per_chunk: int | None,
    whole_seconds: float,
) -> float:
    """The seconds of a call. `whole_seconds`: of the same stream over whole frames."""
    stages = _stages(graphs, work, settings, frames_per_chunk)
    costs = [_multiplications(graph) for graph in graphs]
    more = sum(cost * _overhead(stage) for cost, stage in zip(costs, stages, strict=True)) / sum(costs)
    in_files = max(_waiting_bytes(stages, work.batch) - int(PART_FOR_WAITING * settings.budget_bytes), 0)
    steps = max(work.size[0] / _most_frames(stages[-1]), 1)
    return whole_seconds * more + 2 * in_files * steps / DISK_BYTES_PER_SECOND


def _stages(
    graphs: tuple[Graph, ...], work: Workload, settings: StripSettings, frames_per_chunk: int | None
) -> tuple[StagePieces, ...]:
    spatial, rows = work.grid.spatial, settings.rows
    columns = None if settings.columns is None else settings.columns // spatial
    return plan_pieces(
        graphs,
        (work.cells[1], work.cells[2]),
        work.batch,
        budget_bytes=int(PART_FOR_STEPS * settings.budget_bytes),
        strip=None if rows is None else (rows // spatial, columns),
        frames_per_chunk=frames_per_chunk,
        item_bytes=_item_bytes(work),
        gathers=work.comes_in_chunks,
    )


def _item_bytes(work: Workload) -> int:
    return 1 if work.output in ("uint8", "frames") else _ITEM_BYTES


def _waiting_bytes(stages: Sequence[StagePieces], batch: int) -> int:
    """States of whole frames, and the frames that wait in front of each stage but the first."""
    values = 0
    for index, stage in enumerate(stages):
        for tensor in stage.graph.inputs:
            if ports.is_state(tensor.name):
                values += 2 * _frame_values(stage, tensor)
            elif tensor.name == ports.CHUNK and index:
                values += 2 * _most_frames(stage) * _frame_values(stage, tensor)
    return _ITEM_BYTES * batch * values


def _most_frames(stage: StagePieces) -> int:
    assert stage.graph.stage is not None
    return max(stage.frames, stage.graph.stage.lead)


def _frame_values(stage: StagePieces, tensor: TensorInfo) -> int:
    """The values of one whole frame of a tensor of a stage."""
    units = units_per_cell(stage.graph)
    scale = prod(factor for _, factor in axis_factors(tensor).values()) // units**2
    return int(tensor.shape[1]) * scale * prod(stage.size)


def _overhead(stage: StagePieces) -> float:
    """The units that a step reads per unit of a frame."""
    read = sum(
        (tile.rows.window.stop - tile.rows.window.start) * (tile.columns.window.stop - tile.columns.window.start)
        for tile in stage.tiles
    )
    return float(read / prod(stage.size))


def _multiplications(graph: Graph) -> float:
    """In proportion to those of a stage: each state belongs to a convolution of about as many channels."""
    assert graph.stage is not None
    own: int = 0
    for tensor in graph.inputs:
        if ports.is_state(tensor.name):
            channels = int(tensor.shape[1])
            own += channels * channels * prod(factor for _, factor in axis_factors(tensor).values())
    return own / graph.stage.ratio
