"""Models, sizes and contenders."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from benchmarks.cases import MODELS
from numpy.typing import NDArray

__all__ = ["DRY_CASES", "REAL_CASES", "Case", "Contender", "compilers", "peers"]

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
    """A model at one size.

    Attributes:
        model: name of the model.
        config: its config in diffusers' JSON form.
        latents: shape of the latents, (B, C, h, w) or (B, C, t, h, w).
        decode_tflop: operations of a decode, in TFLOP; a multiply-add counts as two.
        encode_tflop: operations of an encode, in TFLOP.
    """

    model: str
    config: dict[str, Any]
    latents: tuple[int, ...]
    decode_tflop: float
    encode_tflop: float

    @property
    def video(self) -> bool:
        return len(self.latents) == 5

    @property
    def ratio(self) -> int:
        """Pixels per latent cell, along height and width."""
        return 32 if self.video else 8

    @property
    def sample(self) -> tuple[int, ...]:
        """The shape of the sample: (B, 3, H, W), or (B, 3, T, H, W)."""
        frames = (8 * (self.latents[2] - 1) + 1,) if self.video else ()
        return (self.latents[0], 3, *frames, *(size * self.ratio for size in self.latents[-2:]))

    @property
    def name(self) -> str:
        height, width = self.sample[-2:]
        return f"{self.model} {height}x{width}{f'x{self.sample[2]}' if self.video else ''}"

    @property
    def extent(self) -> Any:
        """The size of the sample, in the form in which engines are built for it."""
        from latentrt.export.engines.settings import Extent

        height, width = self.sample[-2:]
        return Extent(self.sample[0], height, width, self.sample[2] if self.video else 1)

    @property
    def tile(self) -> Any:
        """A tile of half the sample's height and width, on the grid."""
        whole = self.extent
        half = {side: max(getattr(whole, side) // 2 // self.ratio, 2) * self.ratio for side in ("height", "width")}
        return replace(whole, **half)

    def array(self, component: str) -> NDArray[np.float32]:
        """Draw the input of a component: standard normal latents, or a sample in [-1, 1]."""
        shape = self.sample if component == "encoder" else self.latents
        drawn = np.random.default_rng(1).standard_normal(shape, np.float32)
        return np.tanh(drawn, out=drawn) if component == "encoder" else drawn

    def tflop(self, component: str) -> float:
        return self.encode_tflop if component == "encoder" else self.decode_tflop


REAL_CASES = (
    Case("sdxl", _SDXL, (1, 4, 128, 128), 10.470392594432, 4.87895072768),
    Case("ltx2", MODELS["ltx2"], (1, 128, 16, 16, 24), 60.21527371776, 139.720227028992),
    Case("ltx2", MODELS["ltx2"], (1, 128, 16, 22, 38), 131.09366882304, 304.182577594368),
)
DRY_CASES = (
    Case("sdxl", _SMALL_KL, (1, 4, 8, 8), 0.000513165312, 0.000238460928),
    Case("ltx2", _SMALL_LTX, (1, 16, 2, 2, 3), 0.00017584128, 0.000408830976),
)
"""Small models, for measurements that do not depend on the size and for the dry run."""


@dataclass(frozen=True)
class Contender:
    """A way to run a model.

    Attributes:
        kind: "torch", "torch.compile", or the name of one of our backends.
        dtype: precision.
        detail: memory layout of torch, or provider of ONNX Runtime.
        mode: mode of torch.compile.
    """

    kind: str
    dtype: str
    detail: str = ""
    mode: str = ""

    @classmethod
    def of(cls, label: str, dtype: str) -> "Contender":
        """A backend by its label, such as "onnxruntime:cuda"."""
        kind, _, provider = label.partition(":")
        return cls(kind, dtype, provider)

    @property
    def name(self) -> str:
        return " ".join(filter(None, (self.kind, self.detail, self.mode, self.dtype)))

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of `open_bundle` that choose this backend."""
        return {"backend": self.kind, "provider": self.detail or None, "dtype": self.dtype}

    @property
    def is_torch(self) -> bool:
        return self.kind.startswith("torch")

    def least_db(self, output: str = "float32") -> float:
        """Return the promised PSNR to the reference, in dB.

        The value for float32 is one that TF32 does not reach. bfloat16 has only 8 bits, so its value is low. torch has
        none, since its low precisions keep no part in float32. The rounding of pixels limits the value for "uint8".
        """
        if self.is_torch:
            return 0
        promised = {"float32": 80.0, "float16": 45.0, "bfloat16": 30.0}[self.dtype]
        return min(promised, 40.0) if output == "uint8" else promised


def peers(case: Case) -> tuple[Contender, ...]:
    """Return the contenders of eager torch, the reference first."""
    low = [Contender("torch", dtype, layout) for dtype in ("bfloat16", "float16") for layout in (_layout(case), "")]
    return (Contender("torch", "float32"), *low)


def compilers(case: Case, mode: str = "") -> tuple[Contender, ...]:
    """Return the contenders of torch.compile, the more common precision first."""
    return tuple(Contender("torch.compile", dtype, _layout(case), mode) for dtype in ("bfloat16", "float16"))


def _layout(case: Case) -> str:
    return "channels_last_3d" if case.video else "channels_last"
