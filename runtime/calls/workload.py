"""The size of a call as numbers. They suffice to plan the call before its arrays exist."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..arrays.grid import Grid
from ..config.model_config import ModelConfig

__all__ = ["MOST_ELEMENTS", "Workload", "most_bytes", "peak_estimate_bytes", "volume"]

MOST_ELEMENTS = 2**31 - 1
"""Of one tensor: what engines index with 32 bits."""
_ITEM_BYTES = 4
_KEPT_SIZES = 64  # calls often have the size of an earlier one
_LIVE_TENSORS = 12  # as large as the widest one: twice what was measured for any model and backend
_LIVE_SCORES = 2.1  # two copies of attention's scores, and its input


@dataclass(frozen=True)
class Workload:
    """One encode or decode.

    Attributes:
        cells: of the latents, (T,) H, W.
        output: "float32", "uint8", "device", or "frames" if pixels are handed on as they come and the call keeps none.
        comes_in_chunks: whether a stream reads its input chunk by chunk.
        in_one_pass: whether the result is the engine's own, on its device or in the caller's stream.
        caller_bytes: host memory that the caller holds during the call.
    """

    config: ModelConfig
    grid: Grid
    component: str
    batch: int
    cells: tuple[int, ...]
    output: str = "float32"
    comes_in_chunks: bool = False
    in_one_pass: bool = False
    caller_bytes: int = 0

    @property
    def decodes(self) -> bool:
        return self.component == "decoder"

    @property
    def size(self) -> tuple[int, ...]:
        """The size of the sample, (T,) H, W."""
        return self.grid.sample_size(self.cells)

    @property
    def input_bytes(self) -> int:
        channels = self.config.latent_channels if self.decodes else self.config.in_channels
        return _ITEM_BYTES * self.batch * channels * math.prod(self.cells if self.decodes else self.size)

    def result_bytes(self, cells: Sequence[int] | None = None) -> int:
        """The bytes of the float32 result, or of the result of a tile of `cells`."""
        if self.decodes:
            size = self.size if cells is None else self.grid.sample_size(cells)
            return _ITEM_BYTES * self.batch * self.config.out_channels * math.prod(size)
        return _ITEM_BYTES * self.batch * 2 * self.config.latent_channels * math.prod(cells or self.cells)

    @property
    def scores(self) -> int:
        """Elements of the scores of attention in one pass: quadratic in the latents' area. 0: there is none."""
        return self.batch * math.prod(self.cells) ** 2 if self.config.attention_channels else 0

    @property
    def widest(self) -> int:
        """Elements of the largest activation of one pass, without attention's scores."""
        return self._units * self.config.pass_memory(self.component).widest

    @property
    def peak_estimate_bytes(self) -> int:
        """An upper estimate of what one pass holds at once, without the weights (`CallScope.peak_estimate_bytes`)."""
        peak = self._units * self.config.pass_memory(self.component).peak
        return int(_ITEM_BYTES * max(peak, _LIVE_SCORES * self.scores))

    @property
    def _units(self) -> int:
        """The size to which activations are proportional: latent cells of pictures, or cells times frames of clips."""
        return self.batch * volume(self.grid, self.cells)

    @property
    def too_large(self) -> str | None:
        """Why no engine runs this in one pass, with any amount of memory, or None."""
        for what, count in (("an activation", self.widest), ("the scores of attention", self.scores)):
            if count > MOST_ELEMENTS:
                return f"{what} would have {count / 1e9:.1f}e9 elements, and engines index 2^31"
        return None

    @property
    def most_bytes(self) -> int:
        """A rough upper bound of the bytes of one pass without the weights. It needs no measurement."""
        return _ITEM_BYTES * (_LIVE_TENSORS * self.widest + 3 * self.scores) + self.input_bytes + self.result_bytes()

    def to_json(self) -> dict[str, Any]:
        return {"component": self.component, "batch": self.batch, "cells": list(self.cells), "output": self.output}


def volume(grid: Grid, cells: Sequence[int]) -> int:
    """The size to which an engine's memory and time are proportional: cells of height and width, times frames."""
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
