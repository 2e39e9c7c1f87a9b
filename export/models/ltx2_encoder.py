"""The encoder of the LTX-2 video VAE. Parameters have diffusers' names."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...runtime.config.ltx2 import SAMPLING_STRIDES, AutoencoderKLLTX2VideoConfig
from .ltx2_layers import STAGE_LAYERS, CausalConv3d, PixelNorm, ResnetBlock, SpaceToDepth, Stack, patchify
from .time_axis import TimeAxis, WholeClip

__all__ = ["Encoder"]

Config = AutoencoderKLLTX2VideoConfig


class DownBlock(nn.Module):
    """Residual blocks, then a downsampler if the config has one."""

    def __init__(self, in_channels: int, index: int, config: Config) -> None:
        super().__init__()
        mode = config.encoder_spatial_padding_mode
        self.resnets = nn.ModuleList(
            ResnetBlock(in_channels, in_channels, eps=config.resnet_norm_eps, padding_mode=mode)
            for _ in range(config.layers_per_block[index])
        )
        self.downsamplers = nn.ModuleList()
        if config.encoder_scaling[index]:
            kind, width = config.downsample_type[index], config.block_out_channels[index]
            self.downsamplers.append(
                CausalConv3d(in_channels, in_channels, mode, stride=(2, 2, 2))
                if kind == "conv"
                else SpaceToDepth(in_channels, width, SAMPLING_STRIDES[kind], mode)
            )

    def forward(self, hidden: Tensor, time: TimeAxis) -> Tensor:
        for layer in (*self.resnets, *self.downsamplers):
            hidden = layer(hidden, time)
        return hidden


class Encoder(nn.Module):
    """Clip (B, Cin, 1+8k, H, W) -> moments (B, 2 * latent_channels, 1+k, h, w)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        mode = config.encoder_spatial_padding_mode
        self.patch_size = config.patch_size
        self.latent_channels = config.latent_channels
        self.is_causal = config.encoder_causal
        self.conv_in = CausalConv3d(config.in_channels * config.patch_size**2, config.latent_channels, mode)
        widths = (config.latent_channels, *config.block_out_channels)
        self.down_blocks = nn.ModuleList(DownBlock(width, index, config) for index, width in enumerate(widths[:-1]))
        self.mid_block = Stack(widths[-1], config.layers_per_block[-1], eps=config.resnet_norm_eps, padding_mode=mode)
        self.norm_out = PixelNorm()
        self.conv_act = nn.SiLU()
        self.conv_out = CausalConv3d(widths[-1], config.latent_channels + 1, mode)

    @property
    def stages(self) -> tuple["EncoderStage", ...]:
        """The stages of a stream: each block in parts of `STAGE_LAYERS` residual blocks, a downsampler with the
        part before it.

        The convolution before the first block goes with the first stage, and the convolution behind the middle block
        with the last stage.
        """
        parts: list[list[Any]] = []
        for block in (*self.down_blocks, self.mid_block):
            layers: list[Any] = list(block.resnets)
            own = [layers[start : start + STAGE_LAYERS] for start in range(0, len(layers), STAGE_LAYERS)]
            own = own or [[]]
            own[-1] += getattr(block, "downsamplers", ())
            parts += [part for part in own if part]
        stages, ratio = [], 1
        for part in parts or [[]]:
            stages.append(EncoderStage(tuple(part), ratio))
            ratio *= math.prod(_time_stride(layer) for layer in part)
        return tuple(stages)

    def forward(self, sample: Tensor, time: TimeAxis | None = None) -> Tensor:
        time = WholeClip(self.is_causal) if time is None else time
        hidden = self.conv_in(patchify(sample, self.patch_size), time)
        for block in self.down_blocks:
            hidden = block(hidden, time)
        return self._moments(self.mid_block(hidden, time), time)

    def stage(self, index: int, hidden: Tensor, time: TimeAxis) -> Tensor:
        """Run one of `stages`.

        Args:
            index: index of the stage.
            hidden: the result of the previous stage; the clip for the first stage.
            time: the time axis.

        Returns:
            The input of the next stage, or the moments for the last stage.
        """
        stages = self.stages
        if index == 0:
            hidden = self.conv_in(patchify(hidden, self.patch_size), time)
        for layer in stages[index].layers:
            hidden = layer(hidden, time)
        return self._moments(hidden, time) if index + 1 == len(stages) else hidden

    def _moments(self, hidden: Tensor, time: TimeAxis) -> Tensor:
        hidden = self.conv_out(self.conv_act(self.norm_out(hidden)), time)
        # All latent channels share the log-variance in the last channel. `hidden` ends with its first copy.
        logvar = hidden[:, self.latent_channels :]
        return torch.cat([hidden] + [logvar] * (self.latent_channels - 1), dim=1)


@dataclass(frozen=True)
class EncoderStage:
    """A part of the encoder that is a graph of its own in a stream.

    Attributes:
        layers: residual blocks, and a downsampler at the end of a block.
        ratio: frames of the clip per input frame of the stage.
    """

    layers: tuple[nn.Module, ...]
    ratio: int


def _time_stride(layer: nn.Module) -> int:
    """How many frames of a layer's input make one frame of its result."""
    if isinstance(layer, SpaceToDepth):
        return layer.stride[0]
    return layer.conv.stride[0] if isinstance(layer, CausalConv3d) else 1
