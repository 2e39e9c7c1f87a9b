"""The layers of the LTX-2 video VAE: convolutions, pixel norms, residual blocks and samplers.

Arrays are (B, C, T, H, W). Convolutions pad the time axis by repeating frames. Samplers are space-to-depth and
depth-to-space. Reshapes use plain sizes and no symbolic unflattening, so each of them exports to one node.

Source of the architecture: Lightricks LTX-2 and diffusers' `AutoencoderKLLTX2Video`. Parameters have diffusers' names.
"""

import math
from typing import Literal, cast

import torch
from torch import Tensor, nn

from .time_axis import TimeAxis
from .timestep_embedding import TimestepEmbedding

__all__ = [
    "STAGE_LAYERS",
    "CausalConv3d",
    "DepthToSpace",
    "PixelNorm",
    "ResnetBlock",
    "SpaceToDepth",
    "Stack",
    "affine",
    "modulate",
    "pack",
    "patchify",
    "unpack",
    "unpatchify",
]

Stride = tuple[int, int, int]
STAGE_LAYERS = 2
"""The most residual blocks in a stage of a stream."""


class PixelNorm(nn.Module):
    """x / sqrt(mean over channels of x^2 + 1e-8), without weights."""

    eps = 1e-8

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden / torch.sqrt(torch.mean(hidden * hidden, dim=1, keepdim=True) + self.eps)


class CausalConv3d(nn.Module):
    """A 3x3x3 convolution that keeps the number of frames.

    The time axis pads the frames. Height and width are padded by one, with zeros or by reflection.
    """

    def __init__(self, in_channels: int, out_channels: int, padding_mode: str, stride: Stride = (1, 1, 1)) -> None:
        super().__init__()
        mode = cast(Literal["zeros", "reflect"], padding_mode)
        self.conv = nn.Conv3d(in_channels, out_channels, 3, stride=stride, padding=(0, 1, 1), padding_mode=mode)

    def forward(self, hidden: Tensor, time: TimeAxis) -> Tensor:
        return self.conv(time.window(hidden, self.conv.stride[0]))


def modulate(hidden: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Apply the affine part of an adaptive norm; scale and shift are (B, C, 1, 1, 1)."""
    return hidden * (1 + scale) + shift


class ResnetBlock(nn.Module):
    """Norm, SiLU and convolution, twice, plus the input; with modulation and noise if the decoder has them."""

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
        """Run the block.

        Args:
            inputs: (B, C, T, H, W).
            time: the time axis.
            embedding: (B, 4 * C), result of the time embedder of the stack.
            noise: two maps (H, W), one per convolution.
        """
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
    """Add a learned table (parts, C) to an embedding (B, parts * C), and cut the sum into tensors (B, C, 1, 1, 1)."""
    sums = embedding + table.reshape(1, -1)
    pieces = sums.reshape(sums.shape[0], parts, -1, 1, 1, 1)
    return tuple(pieces[:, index] for index in range(parts))


class Stack(nn.Module):
    """Residual blocks of one width, with a time embedder of their own if the decoder has timestep conditioning."""

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
        """Run the residual blocks.

        Args:
            hidden: (B, C, T, H, W).
            time: the time axis.
            timesteps: scaled timesteps (B,), for decoders with timestep conditioning.
            noise: (2 * residual blocks, H, W), two maps per residual block.
            layers: the residual blocks to run; None runs all.
        """
        embedding = None if self.time_embedder is None else self.time_embedder(timesteps)
        for index in range(len(self.resnets)) if layers is None else layers:
            maps = None if noise is None else (noise[2 * index], noise[2 * index + 1])
            hidden = self.resnets[index](hidden, time, embedding, maps)
        return hidden


def pack(hidden: Tensor, stride: Stride) -> Tensor:
    """Space to depth: (B, C, T, H, W) -> (B, C * prod(stride), T / s0, H / s1, W / s2), channel slowest.

    The first step moves whole rows, and the second step moves values within rows. In a single step, an engine on a CPU
    would move value by value, which takes three times as long (benchmarks/profile.md).
    """
    batch, channels, frames, height, width = hidden.shape
    s0, s1, s2 = stride
    split = hidden.reshape(batch, channels, frames // s0, s0, height // s1, s1, width)
    rows = split.permute(0, 1, 3, 5, 2, 4, 6)
    columns = rows.reshape(batch, channels * s0 * s1, frames // s0, height // s1, width // s2, s2)
    grouped = columns.permute(0, 1, 5, 2, 3, 4)
    return grouped.reshape(grouped.shape[0], -1, frames // s0, height // s1, width // s2)


def unpack(hidden: Tensor, channels: int, stride: Stride) -> Tensor:
    """Depth to space, which undoes `pack`: (B, channels * prod(stride), T, H, W) -> (B, channels, T s0, H s1, W s2)."""
    batch, _, frames, height, width = hidden.shape
    s0, s1, s2 = stride
    columns = hidden.reshape(batch, channels * s0 * s1, s2, frames, height, width).permute(0, 1, 3, 4, 5, 2)
    rows = columns.reshape(batch, channels, s0, s1, frames, height, width * s2).permute(0, 1, 4, 2, 5, 3, 6)
    return rows.reshape(rows.shape[0], channels, frames * s0, height * s1, width * s2)


def patchify(sample: Tensor, size: int) -> Tensor:
    """Pack patches into channels: (B, C, T, H, W) -> (B, C * size^2, T, H / size, W / size).

    Within a channel, columns vary more slowly than rows. The move takes two steps, for the reason given in `pack`.
    """
    batch, channels, frames, height, width = sample.shape
    rows = sample.reshape(batch, channels, frames, height // size, size, width).permute(0, 1, 4, 2, 3, 5)
    split = rows.reshape(batch, channels, size, frames, height // size, width // size, size)
    packed = split.permute(0, 1, 6, 2, 3, 4, 5)
    return packed.reshape(packed.shape[0], -1, frames, height // size, width // size)


def unpatchify(hidden: Tensor, channels: int, size: int) -> Tensor:
    """Undo `patchify`: (B, channels * size^2, T, H, W) -> (B, channels, T, H * size, W * size)."""
    batch, _, frames, height, width = hidden.shape
    split = hidden.reshape(batch, channels, size, size, frames, height, width)
    rows = split.permute(0, 1, 3, 4, 5, 6, 2).reshape(batch, channels, size, frames, height, width * size)
    spread = rows.permute(0, 1, 3, 4, 2, 5)
    return spread.reshape(spread.shape[0], channels, frames, height * size, width * size)


class SpaceToDepth(nn.Module):
    """Downsampling: a convolution and space to depth, plus the packed input averaged over groups of channels.

    With a temporal stride of 2 the first frame is repeated once in front, so that 2n - 1 frames become n.
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
    """Upsampling: a convolution, plus (if residual) the input repeated over the channels, then depth to space.

    diffusers unpacks both terms before it adds them. Adding first gives the same sums and saves one large move. With a
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
