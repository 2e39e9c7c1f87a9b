"""The report of a comparison with the PyTorch reference."""

import math
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Comparison", "NotCompared", "ParityReport"]


@dataclass(frozen=True)
class Comparison:
    """The comparison of one graph with the reference on one input.

    Attributes:
        backend: name of the backend, with its provider, such as "onnxruntime:cpu".
        dtype: precision of the graph.
        component: "encoder" or "decoder".
        causal: causality of a video model's graph; None for image models.
        sample: "random", or the file name of the sample.
        shape: shape of the input.
        max_abs: largest absolute difference of the outputs.
        relative: `max_abs` over the largest magnitude of the reference's output.
        psnr_db: PSNR in dB; the range (max - min) of the reference's output is the peak.
        seconds: time of one call, in seconds.
        reference_seconds: time of one call of the reference, in seconds.
        strategy: how the backend ran: "whole" (or the planned strategy, if the whole might not fit into memory),
            "stream" or "strips".
    """

    backend: str
    dtype: str
    component: str
    causal: bool | None
    sample: str
    shape: tuple[int, ...]
    max_abs: float
    relative: float
    psnr_db: float
    seconds: float
    reference_seconds: float
    strategy: str = "whole"


@dataclass(frozen=True)
class NotCompared:
    """A comparison that could not be made.

    Attributes:
        backend: name of the backend, with its provider.
        dtype: precision of the graph.
        reason: why there is no comparison.
    """

    backend: str
    dtype: str
    reason: str


@dataclass(frozen=True)
class ParityReport:
    """All comparisons of a bundle. A comparison that could not be made counts as failed.

    Attributes:
        comparisons: the comparisons; at least one.
        min_psnr_db: PSNR in dB that each comparison must reach.
        not_compared: the comparisons that could not be made.
    """

    comparisons: tuple[Comparison, ...]
    min_psnr_db: float
    not_compared: tuple[NotCompared, ...] = ()

    @property
    def worst_psnr_db(self) -> float:
        """The lowest PSNR of all comparisons, in dB."""
        return min(row.psnr_db for row in self.comparisons)

    @property
    def passed(self) -> bool:
        """True if every comparison was made and reached `min_psnr_db`."""
        return self.worst_psnr_db >= self.min_psnr_db and not self.not_compared

    def to_json(self) -> dict[str, Any]:
        """Return the report as values for JSON. NaN and infinity become None, since JSON has neither."""
        return {
            "passed": self.passed,
            "min_psnr_db": self.min_psnr_db,
            "worst_psnr_db": _finite(self.worst_psnr_db),
            "comparisons": [{key: _finite(value) for key, value in asdict(row).items()} for row in self.comparisons],
            "not_compared": [asdict(row) for row in self.not_compared],
        }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
