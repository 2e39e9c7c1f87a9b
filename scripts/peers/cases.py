"""The cases of the comparison: models at their real depth, with one input each."""

from dataclasses import dataclass
from typing import Any

from benchmarks.cases import MODELS
from benchmarks.overhead import NARROW
from benchmarks.streaming import QUARTER

__all__ = ["CASES", "CONFIGS", "QUICK_CASES", "PeerCase"]

_TINY_VIDEO = QUARTER | {
    "latent_channels": 8,
    "block_out_channels": [8, 16, 32, 64],
    "decoder_block_out_channels": [8, 16, 32],
    "layers_per_block": [1, 1, 1, 1, 1],
    "decoder_layers_per_block": [1, 1, 1, 1],
}
CONFIGS: dict[str, dict[str, Any]] = {
    "quarter": QUARTER,
    "ltx2": MODELS["ltx2"],
    "sd": MODELS["sd"],
    "tiny-ltx2": _TINY_VIDEO,
    "tiny-sd": NARROW,
}
"""Configs by name: LTX-2.0 at a quarter of its width and at full width, Stable Diffusion 1.x, and two tiny ones."""


@dataclass(frozen=True)
class PeerCase:
    """One component of a model at one input shape: (B, C, H, W) or (B, C, T, H, W), latents for a decoder."""

    name: str
    model: str
    component: str
    shape: tuple[int, ...]

    @property
    def video(self) -> bool:
        return len(self.shape) == 5

    @property
    def title(self) -> str:
        size = "x".join(map(str, self.shape))
        return f"{self.name}: {self.model} {self.component}, {size}"


CASES = (
    PeerCase("quarter-decode", "quarter", "decoder", (1, 32, 16, 12, 17)),  # 121 frames of 384x544
    PeerCase("quarter-encode", "quarter", "encoder", (1, 3, 9, 384, 544)),
    PeerCase("full-decode", "ltx2", "decoder", (1, 128, 4, 6, 6)),  # 25 frames of 192x192
    PeerCase("sd-decode", "sd", "decoder", (1, 4, 64, 64)),
    PeerCase("sd-encode", "sd", "encoder", (1, 3, 512, 512)),
)
QUICK_CASES = (
    PeerCase("quick-ltx2-decode", "tiny-ltx2", "decoder", (1, 8, 3, 2, 3)),
    PeerCase("quick-sd-decode", "tiny-sd", "decoder", (1, 4, 16, 16)),
    PeerCase("quick-sd-encode", "tiny-sd", "encoder", (1, 3, 64, 64)),
)
"""Cases that take seconds in all, to check that everything runs. Their ratios mean nothing."""
