"""What a call has to do, as numbers: enough to plan it before there is an array."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..arrays.grid import Grid
from ..config import AutoencoderKLLTX2VideoConfig, ImageConfig, ModelConfig

__all__ = ["MOST_ELEMENTS", "Workload", "most_bytes", "peak_estimate_bytes", "volume"]

MOST_ELEMENTS = 2**31 - 1
"""Of one tensor: what engines index with 32 bits."""
_ITEM_BYTES = 4
_KEPT_SIZES = 64  # calls often have the size of an earlier one
_LIVE_TENSORS = 12  # as large as the widest one: twice what was measured for any model and backend
_LIVE_IN_IMAGES = {"decoder": 4.0, "encoder": 3.2}
"""As large as the widest one, what a pass holds at once, as measured with ONNX Runtime (3.8, and 2.0 to 3.1)."""
_LIVE_IN_CLIPS = {"decoder": (3.0, 2.3), "encoder": (4.4, 4.2)}
"""The same at the patches' resolution: times the narrowest layer's channels, or times a patch's if that is more."""
_LIVE_SCORES = 2.1  # two copies of attention's scores, and its input


@dataclass(frozen=True)
class Workload:
    """One encode or decode.

    Attributes:
        cells: of the latents, (T,) H, W.
        output: "float32", "uint8", "device", or "frames" if pixels are handed on as they come and the call keeps none.
        comes_in_chunks: whether a stream reads its input chunk by chunk.
        in_one_pass: whether the result is the engine's own, on its device or in the caller's stream.
        beside_bytes: host memory that the caller holds during the call.
    """

    config: ModelConfig
    grid: Grid
    component: str
    batch: int
    cells: tuple[int, ...]
    output: str = "float32"
    comes_in_chunks: bool = False
    in_one_pass: bool = False
    beside_bytes: int = 0

    @property
    def decodes(self) -> bool:
        return self.component == "decoder"

    @property
    def size(self) -> tuple[int, ...]:
        """Of the sample, (T,) H, W."""
        return self.grid.sample_size(self.cells)

    @property
    def input_bytes(self) -> int:
        channels = self.config.latent_channels if self.decodes else self.config.in_channels
        return _ITEM_BYTES * self.batch * channels * math.prod(self.cells if self.decodes else self.size)

    def result_bytes(self, cells: Sequence[int] | None = None) -> int:
        """Of the float32 result, or of that of a tile of `cells`."""
        if self.decodes:
            size = self.size if cells is None else self.grid.sample_size(cells)
            return _ITEM_BYTES * self.batch * self.config.out_channels * math.prod(size)
        return _ITEM_BYTES * self.batch * 2 * self.config.latent_channels * math.prod(cells or self.cells)

    @property
    def scores(self) -> int:
        """Elements of the scores of attention in one pass: quadratic in the latents' area. 0: there is none."""
        attends = isinstance(self.config, ImageConfig) and self.config.mid_block_add_attention
        return self.batch * math.prod(self.cells) ** 2 if attends else 0

    @property
    def widest(self) -> int:
        """Elements of the largest activation of one pass, without attention's scores."""
        config, ratio = self.config, self.grid.spatial
        if isinstance(config, AutoencoderKLLTX2VideoConfig):
            # The first block's channels at the patches' resolution; sampling packs no more than twice as many there.
            return self._patches * max(2 * min(self._widths(config)), config.out_channels * config.patch_size**2)
        assert isinstance(config, ImageConfig)
        image = config.decoder_widths if self.decodes else config.block_out_channels
        widest = max(channels * (ratio >> level) ** 2 for level, channels in enumerate((*image[1:2], *image)[:2]))
        return self.batch * max(widest, image[0] * ratio**2) * math.prod(self.cells)

    @property
    def peak_estimate_bytes(self) -> int:
        """An upper estimate of what one pass holds at once, without the weights (`CallScope.peak_estimate_bytes`)."""
        config = self.config
        if isinstance(config, AutoencoderKLLTX2VideoConfig):
            (by_width, by_patch), patch = _LIVE_IN_CLIPS[self.component], config.out_channels * config.patch_size**2
            channels = max(by_width * min(self._widths(config)), by_patch * patch)
            return int(_ITEM_BYTES * self._patches * channels)
        return int(_ITEM_BYTES * max(_LIVE_IN_IMAGES[self.component] * self.widest, _LIVE_SCORES * self.scores))

    @property
    def _patches(self) -> int:
        """Of a video model: how many the batch's clips have."""
        assert isinstance(self.config, AutoencoderKLLTX2VideoConfig)
        return self.batch * (self.grid.spatial // self.config.patch_size) ** 2 * volume(self.grid, self.cells)

    def _widths(self, config: AutoencoderKLLTX2VideoConfig) -> Sequence[int]:
        return config.decoder_block_out_channels if self.decodes else config.block_out_channels

    @property
    def too_large(self) -> str | None:
        """Why no engine runs this in one pass, with any amount of memory, or None."""
        for what, count in (("an activation", self.widest), ("the scores of attention", self.scores)):
            if count > MOST_ELEMENTS:
                return f"{what} would have {count / 1e9:.1f}e9 elements, and engines index 2^31"
        return None

    @property
    def most_bytes(self) -> int:
        """A bound of what one pass takes without the weights: far above it, and known without measuring."""
        return _ITEM_BYTES * (_LIVE_TENSORS * self.widest + 3 * self.scores) + self.input_bytes + self.result_bytes()

    def to_json(self) -> dict[str, Any]:
        return {"component": self.component, "batch": self.batch, "cells": list(self.cells), "output": self.output}


def volume(grid: Grid, cells: Sequence[int]) -> int:
    """What an engine's memory and time grow with: cells of height and width, times the clip's frames."""
    frames = (cells[0] - 1) * grid.temporal + 1 if grid.video else 1
    return frames * cells[-2] * cells[-1]


@lru_cache(_KEPT_SIZES)
def most_bytes(work: Workload) -> int:
    """`Workload.most_bytes`, remembered."""
    return work.most_bytes


@lru_cache(_KEPT_SIZES)
def peak_estimate_bytes(work: Workload) -> int:
    """`Workload.peak_estimate_bytes`, remembered."""
    return work.peak_estimate_bytes
