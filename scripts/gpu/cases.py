"""Which models at which sizes, and who competes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.cases import MODELS

__all__ = ["DRY_CASES", "REAL_CASES", "Case", "Contender", "contenders", "precisions_of"]

_SDXL = MODELS["sd"] | {"scaling_factor": 0.13025, "sample_size": 1024, "force_upcast": True}
_SMALL_KL = MODELS["sd"] | {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1}
_SMALL_LTX = MODELS["ltx2"] | {
    "latent_channels": 16,
    "block_out_channels": [16, 32, 64, 128],
    "decoder_block_out_channels": [16, 32, 64],
    "layers_per_block": [1, 1, 1, 1, 1],
    "decoder_layers_per_block": [1, 1, 1, 1],
}


@dataclass(frozen=True)
class Case:
    """One decode: a model, its config, and the shape of the latents."""

    model: str
    config: dict[str, Any]
    latents: tuple[int, ...]

    @property
    def video(self) -> bool:
        return len(self.latents) == 5

    @property
    def name(self) -> str:
        ratio = 32 if self.video else 8
        height, width = (size * ratio for size in self.latents[-2:])
        frames = f"x{8 * (self.latents[2] - 1) + 1}" if self.video else ""
        return f"{self.model} {width}x{height}{frames}"


REAL_CASES = (
    Case("sdxl", _SDXL, (1, 4, 128, 128)),
    Case("ltx2", MODELS["ltx2"], (1, 128, 16, 16, 24)),
    Case("ltx2", MODELS["ltx2"], (1, 128, 16, 22, 38)),
)
DRY_CASES = (Case("sdxl", _SMALL_KL, (1, 4, 8, 8)), Case("ltx2", _SMALL_LTX, (1, 16, 2, 2, 3)))


@dataclass(frozen=True)
class Contender:
    """One way to run a decoder. `kind` is "torch", "torch.compile" or a backend of ours; `detail` is torch's memory
    layout or ONNX Runtime's provider."""

    kind: str
    dtype: str
    detail: str = ""

    @property
    def name(self) -> str:
        return " ".join(filter(None, (self.kind, self.detail, self.dtype)))


def contenders(*, dry: bool, backends: Sequence[str]) -> tuple[Contender, ...]:
    """Ours first, so that a run that is cut short has measured them; `backends` are labels as `latentrt doctor` has
    them."""
    ours = [
        Contender(kind, dtype, provider)
        for kind, _, provider in (label.partition(":") for label in backends)
        for dtype in precisions_of(kind)
    ]
    if dry:
        return (*ours, Contender("torch", "float32"), Contender("torch", "bfloat16", "channels_last"))
    layouts = ("channels_last", "")
    peers = [Contender(kind, "bfloat16", layout) for kind in ("torch", "torch.compile") for layout in layouts]
    return (*ours, *peers, Contender("torch", "float32"))


def precisions_of(backend: str) -> tuple[str, ...]:
    """What is measured of a backend, and so built for it, the most telling first: time is short."""
    several = {"tensorrt-rtx": ("float16", "float32", "bfloat16"), "onnxruntime": ("float16", "float32")}
    return several.get(backend, ("float16",))
