"""The video VAE of LTX-2, in the layouts of LTX-2.0, 2.3 and 2.5 (convolutional decoder).

Source of the architecture: Lightricks LTX-2 and diffusers' `AutoencoderKLLTX2Video`. Parameters have diffusers' names.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...runtime.config.ltx2 import SAMPLING_STRIDES, AutoencoderKLLTX2VideoConfig
from .ltx2_encoder import Encoder
from .ltx2_layers import (
    STAGE_LAYERS,
    CausalConv3d,
    DepthToSpace,
    PixelNorm,
    ResnetBlock,
    Stack,
    affine,
    modulate,
    unpatchify,
)
from .time_axis import TimeAxis, WholeClip
from .timestep_embedding import TimestepEmbedding

__all__ = ["AutoencoderKLLTX2Video"]

Config = AutoencoderKLLTX2VideoConfig


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
        `STAGE_LAYERS` residual blocks.

        The first chunk of a stage needs as many frames as its convolutions look ahead; for a whole block these frames
        would determine the peak memory. In strips, each part needs only a few rows around those that it makes.
        """
        blocks: list[Stack] = [self.mid_block, *self.up_blocks]
        ratios, parts = self._ratios, []
        for index, block in enumerate(blocks):
            count = len(block.resnets)
            for start in range(0, max(count, 1), STAGE_LAYERS):  # upsampling goes with the first residual blocks
                ratio = ratios[index if start == 0 else index + 1]
                parts.append(DecoderStage(index, range(start, min(start + STAGE_LAYERS, count)), ratio))
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
