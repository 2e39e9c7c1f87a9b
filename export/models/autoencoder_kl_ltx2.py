"""The video VAE of LTX-2, in the layouts of LTX-2.0, 2.3 and 2.5 (convolutional decoder).

Source of the architecture: Lightricks LTX-2 and diffusers' `AutoencoderKLLTX2Video`. Parameters have diffusers' names.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...runtime.config.ltx2 import SAMPLING_STRIDES, AutoencoderKLLTX2VideoConfig
from .ltx2_layers import CausalConv3d, DepthToSpace, PixelNorm, ResnetBlock, SpaceToDepth, Stack, affine, modulate
from .time_axis import TimeAxis, WholeClip
from .timestep_embedding import TimestepEmbedding

__all__ = ["AutoencoderKLLTX2Video"]

Config = AutoencoderKLLTX2VideoConfig
_MAX_STAGE_LAYERS = 2  # residual blocks in a stage of a stream


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


class UpBlock(Stack):
    """An upsampler if the config has one, then residual blocks."""

    def __init__(self, in_channels: int, index: int, config: Config) -> None:
        factor = config.upsample_factor[::-1][index]
        block = config.decoder_block_out_channels[::-1][index]
        mode = config.decoder_spatial_padding_mode
        super().__init__(
            block // factor,
            config.decoder_layers_per_block[::-1][index + 1],
            eps=config.resnet_norm_eps,
            padding_mode=mode,
            inject_noise=config.inject_noise[index + 1],
            timestep_conditioning=config.timestep_conditioning,
        )
        self.conv_in = None
        if in_channels != block:
            self.conv_in = ResnetBlock(in_channels, block, eps=config.resnet_norm_eps, padding_mode=mode)
        self.upsamplers = nn.ModuleList()
        if config.decoder_scaling[index]:
            stride = SAMPLING_STRIDES[config.upsample_type[index]]
            self.upsamplers.append(DepthToSpace(block, factor, stride, config.residual_upsampling[index], mode))

    def forward(
        self,
        hidden: Tensor,
        time: TimeAxis,
        timesteps: Tensor | None = None,
        noise: Tensor | None = None,
        layers: range | None = None,
    ) -> Tensor:
        """Run as `Stack.forward`. The layers before the residual blocks run with the first residual block."""
        if layers is None or layers.start == 0:
            if self.conv_in is not None:
                hidden = self.conv_in(hidden, time)
            for upsampler in self.upsamplers:
                hidden = upsampler(hidden, time)
        return super().forward(hidden, time, timesteps, noise, layers)


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
        """The stages of a stream: each block in parts of `_MAX_STAGE_LAYERS` residual blocks, a downsampler with the
        part before it.

        The convolution before the first block goes with the first stage, and the convolution behind the middle block
        with the last stage.
        """
        parts: list[list[Any]] = []
        for block in (*self.down_blocks, self.mid_block):
            layers: list[Any] = list(block.resnets)
            own = [layers[start : start + _MAX_STAGE_LAYERS] for start in range(0, len(layers), _MAX_STAGE_LAYERS)]
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


@dataclass(frozen=True)
class DecoderStage:
    """A part of the decoder that is a graph of its own in a stream.

    Attributes:
        block: index of the block; 0 is the mid block, and 1 the first up block.
        layers: residual blocks of the block. The layers before the first residual block run with it.
        ratio: frames of the clip per input frame of the stage.
    """

    block: int
    layers: range
    ratio: int


class Decoder(nn.Module):
    """Latents (B, latent_channels, 1+k, h, w) -> clip (B, Cout, 1+8k, H, W)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        mode = config.decoder_spatial_padding_mode
        blocks = config.decoder_block_out_channels[::-1]
        self.patch_size = config.patch_size
        self.out_channels = config.out_channels
        self.is_causal = config.decoder_causal
        self.conv_in = CausalConv3d(config.latent_channels, blocks[0], mode)
        self.mid_block = Stack(
            blocks[0],
            config.decoder_layers_per_block[-1],
            eps=config.resnet_norm_eps,
            padding_mode=mode,
            inject_noise=config.inject_noise[0],
            timestep_conditioning=config.timestep_conditioning,
        )
        widths = [blocks[0]] + [
            width // factor for width, factor in zip(blocks, config.upsample_factor[::-1], strict=False)
        ]
        self.up_blocks = nn.ModuleList(UpBlock(width, index, config) for index, width in enumerate(widths[:-1]))
        samplers = zip(config.upsample_type, config.decoder_scaling, blocks, strict=False)
        self.time_strides = tuple(SAMPLING_STRIDES[kind][0] if scales else 1 for kind, scales, _ in samplers)
        self.norm_out = PixelNorm()
        self.conv_act = nn.SiLU()
        self.conv_out = CausalConv3d(widths[-1], config.out_channels * config.patch_size**2, mode)
        self.time_embedder = self.scale_shift_table = self.timestep_scale_multiplier = None
        if config.timestep_conditioning:
            self.timestep_scale_multiplier = nn.Parameter(torch.tensor(1000.0))
            self.time_embedder = TimestepEmbedding(2 * widths[-1])
            self.scale_shift_table = nn.Parameter(torch.randn(2, widths[-1]) / widths[-1] ** 0.5)

    @property
    def stages(self) -> tuple["DecoderStage", ...]:
        """The stages of a stream: the mid block with the convolution before it, and each up block, in parts of
        `_MAX_STAGE_LAYERS` residual blocks.

        The first chunk of a stage needs as many frames as its convolutions look ahead; for a whole block these frames
        would determine the peak memory. In strips, each part needs only a few rows around those that it makes.
        """
        blocks: list[Stack] = [self.mid_block, *self.up_blocks]
        ratios, parts = self._ratios, []
        for index, block in enumerate(blocks):
            count = len(block.resnets)
            for start in range(0, max(count, 1), _MAX_STAGE_LAYERS):  # upsampling goes with the first residual blocks
                ratio = ratios[index if start == 0 else index + 1]
                parts.append(DecoderStage(index, range(start, min(start + _MAX_STAGE_LAYERS, count)), ratio))
        return tuple(parts)

    @property
    def _ratios(self) -> tuple[int, ...]:
        """Frames of the clip per frame that goes into the mid block, into each up block, and out of the last one."""
        after = [math.prod(self.time_strides[index:]) for index in range(len(self.time_strides) + 1)]
        return (after[0], *after)

    def forward(
        self,
        latents: Tensor,
        temb: Tensor | None = None,
        noise: tuple[Tensor | None, ...] | None = None,
        time: TimeAxis | None = None,
    ) -> Tensor:
        time = WholeClip(self.is_causal) if time is None else time
        hidden, timesteps = latents, self._scaled(temb)
        for block, maps in enumerate(noise or (None,) * (1 + len(self.up_blocks))):
            hidden = self._block(block, None, hidden, time, timesteps, maps)
        return self._picture(hidden, time, timesteps)

    def stage(
        self, index: int, hidden: Tensor, time: TimeAxis, temb: Tensor | None = None, noise: Tensor | None = None
    ) -> Tensor:
        """Run one of `stages`.

        Args:
            index: index of the stage.
            hidden: the result of the previous stage; latents for the first stage.
            time: the time axis.
            temb: timesteps (B,), for decoders with timestep conditioning.
            noise: noise maps of the stage's block, as for `decode`.

        Returns:
            The input of the next stage, or the clip for the last stage.
        """
        stage, timesteps = self.stages[index], self._scaled(temb)
        hidden = self._block(stage.block, stage.layers, hidden, time, timesteps, noise)
        return hidden if index + 1 < len(self.stages) else self._picture(hidden, time, timesteps)

    def _scaled(self, temb: Tensor | None) -> Tensor | None:
        if self.timestep_scale_multiplier is None:
            return None
        assert temb is not None
        return temb * self.timestep_scale_multiplier

    def _block(
        self,
        index: int,
        layers: range | None,
        hidden: Tensor,
        time: TimeAxis,
        timesteps: Tensor | None,
        noise: Tensor | None,
    ) -> Tensor:
        if index > 0:
            return self.up_blocks[index - 1](hidden, time, timesteps, noise, layers)
        if layers is None or layers.start == 0:
            hidden = self.conv_in(hidden, time)
        return self.mid_block(hidden, time, timesteps, noise, layers)

    def _picture(self, hidden: Tensor, time: TimeAxis, timesteps: Tensor | None) -> Tensor:
        hidden = self.norm_out(hidden)
        if self.time_embedder is not None and self.scale_shift_table is not None:
            shift, scale = affine(self.time_embedder(timesteps), self.scale_shift_table, 2)
            hidden = modulate(hidden, scale, shift)
        hidden = self.conv_out(self.conv_act(hidden), time)
        return unpatchify(hidden, self.out_channels, self.patch_size)


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


class AutoencoderKLLTX2Video(nn.Module):
    """The reference model. `encode` returns moments and `decode` a clip; the runtime samples and normalises latents.

    The buffers `latents_mean` and `latents_std` (latent_channels,) belong to checkpoints. The model does not use them.
    """

    latents_mean: Tensor
    latents_std: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.register_buffer("latents_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latents_std", torch.ones(config.latent_channels))

    def encode(self, sample: Tensor, causal: bool | None = None) -> Tensor:
        """Clip (B, Cin, 1+8k, H, W) in [-1, 1] -> moments (B, 2 * latent_channels, 1+k, h, w).

        `causal`: None takes the config's `encoder_causal`. An explicit False takes effect, unlike in diffusers.
        """
        return self.encoder(sample, None if causal is None else WholeClip(causal))

    def decode(
        self,
        latents: Tensor,
        temb: Tensor | None = None,
        noise: tuple[Tensor | None, ...] | None = None,
        causal: bool | None = None,
    ) -> Tensor:
        """Model latents (B, latent_channels, 1+k, h, w) -> clip (B, Cout, 1+8k, H, W), about [-1, 1], not clipped.

        Args:
            latents: model latents.
            temb: timesteps (B,), for decoders with timestep conditioning.
            noise: for decoders that inject noise: per block (the mid block, then the up blocks) None or a tensor
                (2 * residual blocks, block height, block width).
            causal: None takes the config's `decoder_causal`.
        """
        return self.decoder(latents, temb, noise, None if causal is None else WholeClip(causal))

    def forward(self, sample: Tensor) -> Tensor:
        """Encode, take the mean, decode without conditioning."""
        return self.decode(self.encode(sample).chunk(2, dim=1)[0])
