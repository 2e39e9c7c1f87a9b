"""What a comparison with the PyTorch reference found."""

import math
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Comparison", "NotCompared", "ParityReport"]


@dataclass(frozen=True)
class Comparison:
    """One graph on one input.

    Attributes:
        backend: the backend and provider, such as "onnxruntime:cpu".
        dtype: the precision of the computation.
        component: "encoder" or "decoder".
        causal: the causality of a video model's graph; None for image models.
        sample: the name of the input.
        shape: the shape of the input.
        max_abs: the largest difference of the outputs.
        relative: `max_abs` over the largest magnitude of the reference's output.
        psnr_db: the PSNR of the output in dB; the reference's range (max - min) is the peak.
        seconds: the seconds of one call.
        reference_seconds: the seconds of one call of the reference.
        strategy: how the call ran: "whole" (or as planned, if a single pass might not fit into memory), "stream",
            "default" or "strips".
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
    """A backend and precision that could not be compared, with the reason."""

    backend: str
    dtype: str
    reason: str


@dataclass(frozen=True)
class ParityReport:
    """All comparisons of a bundle.

    Attributes:
        comparisons: one entry for each graph and input; at least one.
        min_psnr_db: the least PSNR that was asked for, in dB.
        not_compared: what could not be compared, and so has not passed.
    """

    comparisons: tuple[Comparison, ...]
    min_psnr_db: float
    not_compared: tuple[NotCompared, ...] = ()

    @property
    def worst_psnr_db(self) -> float:
        """The smallest PSNR of all comparisons, in dB."""
        return min(row.psnr_db for row in self.comparisons)

    @property
    def passed(self) -> bool:
        """Whether every comparison reached `min_psnr_db`, and nothing was left out."""
        return self.worst_psnr_db >= self.min_psnr_db and not self.not_compared

    def to_json(self) -> dict[str, Any]:
        """The report as values for JSON. NaN and infinity, which JSON does not have, become None."""
        return {
            "passed": self.passed,
            "min_psnr_db": self.min_psnr_db,
            "worst_psnr_db": _finite(self.worst_psnr_db),
            "comparisons": [{key: _finite(value) for key, value in asdict(row).items()} for row in self.comparisons],
            "not_compared": [asdict(row) for row in self.not_compared],
        }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
