"""The layers of the LTX-2 video VAE: convolutions that pad time by repeating frames, pixel norms, residual blocks,
space-to-depth and depth-to-space samplers. Arrays are (B, C, T, H, W).

Source of the architecture: Lightricks LTX-2 and diffusers' `AutoencoderKLLTX2Video`, whose parameter names these are.
Reshapes are written with plain sizes rather than symbolic unflattening, so that they export to one node each.
"""

import math
from typing import Literal, cast

import torch
from torch import Tensor, nn

from .time_axis import TimeAxis
from .timestep_embedding import TimestepEmbedding

__all__ = [
    "CausalConv3d",
    "DepthToSpace",
    "PixelNorm",
    "ResnetBlock",
    "SpaceToDepth",
    "Stack",
    "affine",
    "modulate",
    "pack",
    "unpack",
]

Stride = tuple[int, int, int]


class PixelNorm(nn.Module):
    """x / sqrt(mean over channels of x^2 + 1e-8), without weights."""

    eps = 1e-8

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden / torch.sqrt(torch.mean(hidden * hidden, dim=1, keepdim=True) + self.eps)


class CausalConv3d(nn.Module):
    """A 3x3x3 convolution that keeps the number of frames.

    Time is padded by repeating frames, as the time axis says. Space is padded by one, with zeros or by reflection.
    """

    def __init__(self, in_channels: int, out_channels: int, padding_mode: str, stride: Stride = (1, 1, 1)) -> None:
        super().__init__()
        mode = cast(Literal["zeros", "reflect"], padding_mode)
        self.conv = nn.Conv3d(in_channels, out_channels, 3, stride=stride, padding=(0, 1, 1), padding_mode=mode)

    def forward(self, hidden: Tensor, time: TimeAxis) -> Tensor:
        return self.conv(time.window(hidden, self.conv.stride[0]))


def modulate(hidden: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Adaptive norm's affine part; scale and shift are (B, C, 1, 1, 1)."""
    return hidden * (1 + scale) + shift


class ResnetBlock(nn.Module):
    """Norm, (modulation,) SiLU, convolution, (noise,) twice; plus the input."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        eps: float,
        padding_mode: str,
        inject_noise: bool = False,
        timestep_conditioning: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = PixelNorm()
        self.conv1 = CausalConv3d(in_channels, out_channels, padding_mode)
        self.norm2 = PixelNorm()
        self.conv2 = CausalConv3d(out_channels, out_channels, padding_mode)
        self.nonlinearity = nn.SiLU()
        self.norm3 = self.conv_shortcut = None
        if in_channels != out_channels:
            self.norm3 = nn.LayerNorm(in_channels, eps=eps)
            self.conv_shortcut = nn.Conv3d(in_channels, out_channels, 1)
        self.per_channel_scale1 = self.per_channel_scale2 = self.scale_shift_table = None
        if inject_noise:
            self.per_channel_scale1 = nn.Parameter(torch.zeros(in_channels, 1, 1))
            self.per_channel_scale2 = nn.Parameter(torch.zeros(in_channels, 1, 1))
        if timestep_conditioning:
            self.scale_shift_table = nn.Parameter(torch.randn(4, in_channels) / in_channels**0.5)

    def forward(
        self,
        inputs: Tensor,
        time: TimeAxis,
        embedding: Tensor | None = None,
        noise: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """`embedding`: (B, 4 * C) of the block's time embedder; `noise`: two maps (H, W), one per convolution."""
        hidden = self.norm1(inputs)
        if self.scale_shift_table is not None:
            assert embedding is not None
            shift_1, scale_1, shift_2, scale_2 = affine(embedding, self.scale_shift_table, 4)
            hidden = modulate(hidden, scale_1, shift_1)
        hidden = self.conv1(self.nonlinearity(hidden), time)
        if self.per_channel_scale1 is not None:
            assert noise is not None
            hidden = hidden + noise[0] * self.per_channel_scale1.reshape(-1, 1, 1, 1)
        hidden = self.norm2(hidden)
        if self.scale_shift_table is not None:
            hidden = modulate(hidden, scale_2, shift_2)
        hidden = self.conv2(self.nonlinearity(hidden), time)
        if self.per_channel_scale2 is not None:
            assert noise is not None
            hidden = hidden + noise[1] * self.per_channel_scale2.reshape(-1, 1, 1, 1)
        inputs = time.delayed(inputs, 2)
        if self.norm3 is not None and self.conv_shortcut is not None:
            inputs = self.conv_shortcut(self.norm3(inputs.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3))
        return hidden + inputs


def affine(embedding: Tensor, table: Tensor, parts: int) -> tuple[Tensor, ...]:
    """Embedding (B, parts * C) plus a learned table (parts, C), cut into `parts` tensors (B, C, 1, 1, 1)."""
    sums = embedding + table.reshape(1, -1)
    pieces = sums.reshape(sums.shape[0], parts, -1, 1, 1, 1)
    return tuple(pieces[:, index] for index in range(parts))


class Stack(nn.Module):
    """A mid block: residual blocks of one width, with their own time embedder where the decoder is conditioned."""

    def __init__(
        self,
        channels: int,
        layers: int,
        *,
        eps: float,
        padding_mode: str,
        inject_noise: bool = False,
        timestep_conditioning: bool = False,
    ) -> None:
        super().__init__()
        self.time_embedder = TimestepEmbedding(4 * channels) if timestep_conditioning else None
        self.resnets = nn.ModuleList(
            ResnetBlock(
                channels,
                channels,
                eps=eps,
                padding_mode=padding_mode,
                inject_noise=inject_noise,
                timestep_conditioning=timestep_conditioning,
            )
            for _ in range(layers)
        )

    def forward(
        self,
        hidden: Tensor,
        time: TimeAxis,
        timesteps: Tensor | None = None,
        noise: Tensor | None = None,
        layers: range | None = None,
    ) -> Tensor:
        """`timesteps`: (B,), scaled; `noise`: (2 * layers, H, W), two maps per residual block; `layers`: only those."""
        embedding = None if self.time_embedder is None else self.time_embedder(timesteps)
        for index in range(len(self.resnets)) if layers is None else layers:
            maps = None if noise is None else (noise[2 * index], noise[2 * index + 1])
            hidden = self.resnets[index](hidden, time, embedding, maps)
        return hidden


def pack(hidden: Tensor, stride: Stride) -> Tensor:
    """Space to depth: (B, C, T, H, W) -> (B, C * prod(stride), T / s0, H / s1, W / s2), channel slowest.

    Whole rows are moved first, which is copying, and then single values within them; in one step an engine on a CPU
    moves value by value, which takes three times as long (benchmarks/profile.md).
    """
    batch, channels, frames, height, width = hidden.shape
    s0, s1, s2 = stride
    split = hidden.reshape(batch, channels, frames // s0, s0, height // s1, s1, width)
    rows = split.permute(0, 1, 3, 5, 2, 4, 6)
    columns = rows.reshape(batch, channels * s0 * s1, frames // s0, height // s1, width // s2, s2)
    grouped = columns.permute(0, 1, 5, 2, 3, 4)
    return grouped.reshape(grouped.shape[0], -1, frames // s0, height // s1, width // s2)


def unpack(hidden: Tensor, channels: int, stride: Stride) -> Tensor:
    """Depth to space, the reverse of `pack`: (B, channels * prod(stride), T, H, W) -> (B, channels, ...)."""
    batch, _, frames, height, width = hidden.shape
    s0, s1, s2 = stride
    columns = hidden.reshape(batch, channels * s0 * s1, s2, frames, height, width).permute(0, 1, 3, 4, 5, 2)
    rows = columns.reshape(batch, channels, s0, s1, frames, height, width * s2).permute(0, 1, 4, 2, 5, 3, 6)
    return rows.reshape(rows.shape[0], channels, frames * s0, height * s1, width * s2)


class SpaceToDepth(nn.Module):
    """Downsampling: a convolution then space to depth, plus the input packed and averaged over channel groups.

    With a temporal stride of 2 the first frame is repeated once in front, so that 8k+1 frames halve evenly.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: Stride, padding_mode: str) -> None:
        super().__init__()
        self.stride = stride
        self.out_channels = out_channels
        self.group = in_channels * math.prod(stride) // out_channels
        self.conv = CausalConv3d(in_channels, out_channels // math.prod(stride), padding_mode)

    def forward(self, hidden: Tensor, time: TimeAxis) -> Tensor:
        if self.stride[0] == 2:
            hidden = time.first_twice(hidden)
        packed = pack(hidden, self.stride)
        batch, _, frames, height, width = packed.shape
        groups = packed.reshape(batch, self.out_channels, self.group, frames, height, width)
        return pack(self.conv(hidden, time), self.stride) + torch.mean(groups, dim=2)


class DepthToSpace(nn.Module):
    """Upsampling: a convolution, plus (if residual) the input repeated over its channels, then depth to space.

    (diffusers unpacks both and then adds: the sums are the same, and one of the two large moves is saved.) With a
    temporal stride of 2 the first frame is dropped: n frames become 2n - 1.
    """

    def __init__(self, in_channels: int, factor: int, stride: Stride, residual: bool, padding_mode: str) -> None:
        super().__init__()
        self.stride = stride
        self.residual = residual
        cells = math.prod(stride)
        self.out_channels = in_channels // factor
        self.repeats = cells // factor
        self.conv = CausalConv3d(in_channels, self.out_channels * cells, padding_mode)

    def forward(self, hidden: Tensor, time: TimeAxis) -> Tensor:
        packed = self.conv(hidden, time)
        if self.residual:
            packed = packed + torch.cat([time.delayed(hidden, 1)] * self.repeats, dim=1)
        upsampled = unpack(packed, self.out_channels, self.stride)
        return upsampled if self.stride[0] == 1 else time.without_first(upsampled)
