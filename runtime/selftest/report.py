"""What a self-test found."""

import math
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["LEAST_PSNR_DB", "SelftestReport", "SelftestRow"]

LEAST_PSNR_DB = {"float32": 100.0, "float16": 60.0, "bfloat16": 45.0}
"""The PSNR in dB that a result must reach against the reference, by the precision of the computation."""


@dataclass(frozen=True)
class SelftestRow:
    """One golden sample on one backend.

    Attributes:
        backend: the backend with its provider, such as "onnxruntime:cpu".
        dtype: the precision of the computation.
        component: "encoder" or "decoder". "latents" is the conversion between model latents and diffusion latents.
        causal: causality of a video model's graph; None for image models.
        way: "whole", "stream" or "strips".
        sample: the number of the sample.
        psnr_db: PSNR in dB against the reference; -inf for NaN or infinity. None: the sample did not run.
        least_psnr_db: the PSNR in dB that is wanted.
        seconds: the time of the call.
        reason: why the sample did not run.
    """

    backend: str
    dtype: str
    component: str
    causal: bool | None
    way: str
    sample: int
    psnr_db: float | None
    least_psnr_db: float
    seconds: float
    reason: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the result is close enough to the reference."""
        return self.psnr_db is not None and self.psnr_db >= self.least_psnr_db

    def to_json(self) -> dict[str, Any]:
        """Values for JSON. An infinite PSNR becomes None."""
        finite = self.psnr_db is None or math.isfinite(self.psnr_db)
        return asdict(self) | {"psnr_db": self.psnr_db if finite else None, "passed": self.passed}


@dataclass(frozen=True)
class SelftestReport:
    """All rows of a self-test.

    Attributes:
        rows: one for each sample, graph and way.
    """

    rows: tuple[SelftestRow, ...]

    @property
    def passed(self) -> bool:
        """Whether every sample that ran passed, and each component ran a sample."""
        components = {row.component for row in self.rows}
        ran = {row.component for row in self.rows if row.psnr_db is not None}
        return bool(ran) and ran == components and all(row.passed for row in self.rows if row.psnr_db is not None)

    def to_json(self) -> dict[str, Any]:
        """Values for JSON."""
        return {"passed": self.passed, "rows": [row.to_json() for row in self.rows]}
