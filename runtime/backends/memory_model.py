"""How a backend holds memory, as values: what the planner needs to predict a call on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..bundle.engine_records import EngineRecord
from ..bundle.graph import Graph

__all__ = ["LivenessBounds", "MeasuredMemory", "MemoryModel", "RecordedMemory", "Reopening"]


@dataclass(frozen=True)
class Reopening:
    """The options of `open_bundle` that open the same backend in another process. All are JSON values.

    Attributes:
        backend, provider, dtype, threads: as the options of `open_bundle`.
        session_options: the same as a mapping; enumerations stand by the names of their members.
    """

    backend: str
    provider: str | None
    dtype: str
    threads: int | None
    session_options: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class LivenessBounds:
    """What a backend holds at least and at most, compared with the tensors that are alive at one step of a graph
    (`bundle.graph_cost`) and with the weights.

    Attributes:
        least: no call holds less than this many times the live tensors.
        most: no call holds more than this many times the live tensors.
        library_bytes: the most that the engine's library takes.
        weight_copies: the most that an open engine holds, as a multiple of its weights.
        opening_copies: the most that is held while an engine is opened, as a multiple of its weights.
        each_engine_keeps: whether an engine keeps the memory of its last call while other engines run.
    """

    least: float
    most: float
    library_bytes: int
    weight_copies: float
    opening_copies: float
    each_engine_keeps: bool = False

    def loaded(self, weight_bytes: int) -> float:
        """The most bytes of the library and of an open engine with so many bytes of weights."""
        return self.library_bytes + self.weight_copies * weight_bytes

    def opening(self, weight_bytes: int) -> float:
        """The most bytes while an engine with so many bytes of weights is opened."""
        return self.library_bytes + self.opening_copies * weight_bytes


def _no_bytes(peak_estimate_bytes: int) -> int:
    return 0


@dataclass(frozen=True)
class MeasuredMemory:
    """The host's memory. The planner measures small calls in processes of their own and draws lines through them.

    Attributes:
        reopening: how a measuring process opens the backend.
        fixed_bytes: the bytes that a call holds at any size, such as the bookkeeping of an arena, from the upper
            estimate of what one engine call holds at once (`CallScope.peak_estimate_bytes`).
        attention_score_copies: how many arrays of the size of attention's scores a pass holds at once. 0: attention is
            fused and holds none.
        calibration_share: the share of the usual time limit of a calibrating call that is enough here, because memory
            is already proportional to the size in short calls.
        liveness: what calls hold compared with their live tensors. None: it is not known, and calls are measured.
    """

    reopening: Reopening
    fixed_bytes: Callable[[int], int] = field(default=_no_bytes)
    attention_score_copies: int = 0
    calibration_share: float = 1.0
    liveness: LivenessBounds | None = None


@dataclass(frozen=True)
class RecordedMemory:
    """A GPU's memory. The records of the engines say what they take, so nothing is measured.

    Attributes:
        engines: gives the records of a graph's engines that run here, the newest first, or raises `EngineError`.
        free_bytes: gives the GPU memory that may still be taken, in bytes.
        tiles_at_once: how many tiles have their inputs and outputs on the GPU at once.
    """

    engines: Callable[[Graph], tuple[EngineRecord, ...]]
    free_bytes: Callable[[], int]
    tiles_at_once: int = 1


MemoryModel = MeasuredMemory | RecordedMemory
