"""AutoencoderKLLTX2Video: the names and shapes of the parameters of a config."""

import math

from ....runtime.config.ltx2 import SAMPLING_STRIDES, AutoencoderKLLTX2VideoConfig
from ..published import LTX2_BY_UPSAMPLING
from .family_parameters import FamilyParameters
from .shapes import Shapes, affine, convolution

__all__ = ["LTX2", "ltx2_parameters"]

Config = AutoencoderKLLTX2VideoConfig
_STATISTICS = {"latents_mean": "latents_mean", "latents_std": "latents_std"}
_FREQUENCIES = 256  # inputs of the timestep embedding


def ltx2_parameters(config: Config) -> Shapes:
    """Return the shape of every parameter and buffer of the model, by its diffusers name."""
    statistics = dict.fromkeys(_STATISTICS, (config.latent_channels,))
    return _encoder(config) | _decoder(config) | statistics


def _encoder(config: Config) -> Shapes:
    latents = config.latent_channels
    shapes = _convolution("encoder.conv_in", config.in_channels * config.patch_size**2, latents)
    width = latents
    for index, out in enumerate(config.block_out_channels):
        block = f"encoder.down_blocks.{index}"
        shapes |= _resnets(block, width, config.layers_per_block[index])
        if config.encoder_scaling[index]:
            kind = config.downsample_type[index]
            if kind == "conv":
                shapes |= _convolution(f"{block}.downsamplers.0", width, width)
            else:
                cells = math.prod(SAMPLING_STRIDES[kind])
                shapes |= _convolution(f"{block}.downsamplers.0.conv", width, out // cells)
        width = out
    shapes |= _resnets("encoder.mid_block", width, config.layers_per_block[-1])
    return shapes | _convolution("encoder.conv_out", width, latents + 1)


def _decoder(config: Config) -> Shapes:
    blocks = config.decoder_block_out_channels[::-1]
    factors = config.upsample_factor[::-1]
    layers = config.decoder_layers_per_block[::-1]
    width = blocks[0]
    shapes = _convolution("decoder.conv_in", config.latent_channels, width)
    shapes |= _stack("decoder.mid_block", width, layers[0], 0, config)
    for index, block in enumerate(blocks):
        name = f"decoder.up_blocks.{index}"
        if width != block:
            shapes |= _resnet(f"{name}.conv_in", width, block)
        width = block // factors[index]
        if config.decoder_scaling[index]:
            cells = math.prod(SAMPLING_STRIDES[config.upsample_type[index]])
            shapes |= _convolution(f"{name}.upsamplers.0.conv", block, width * cells)
        shapes |= _stack(name, width, layers[index + 1], index + 1, config)
    if config.timestep_conditioning:
        shapes |= {"decoder.timestep_scale_multiplier": (), "decoder.scale_shift_table": (2, width)}
        shapes |= _time_embedder("decoder", 2 * width)
    return shapes | _convolution("decoder.conv_out", width, config.out_channels * config.patch_size**2)


def _stack(name: str, width: int, layers: int, index: int, config: Config) -> Shapes:
    """Return the parameters of a block's residual blocks, with those for noise and conditioning if there are any."""
    shapes = _resnets(name, width, layers)
    for layer in range(layers):
        resnet = f"{name}.resnets.{layer}"
        if config.inject_noise[index]:
            shapes |= {f"{resnet}.per_channel_scale{number}": (width, 1, 1) for number in (1, 2)}
        if config.timestep_conditioning:
            shapes[f"{resnet}.scale_shift_table"] = (4, width)
    return shapes | (_time_embedder(name, 4 * width) if config.timestep_conditioning else {})


def _time_embedder(name: str, channels: int) -> Shapes:
    embedder = f"{name}.time_embedder.timestep_embedder"
    return convolution(f"{embedder}.linear_1", _FREQUENCIES, channels) | convolution(
        f"{embedder}.linear_2", channels, channels
    )


def _resnets(block: str, width: int, count: int) -> Shapes:
    shapes: Shapes = {}
    for index in range(count):
        shapes |= _resnet(f"{block}.resnets.{index}", width, width)
    return shapes


def _resnet(name: str, inputs: int, outputs: int) -> Shapes:
    shapes = _convolution(f"{name}.conv1", inputs, outputs) | _convolution(f"{name}.conv2", outputs, outputs)
    if inputs != outputs:
        shapes |= affine(f"{name}.norm3", inputs) | convolution(f"{name}.conv_shortcut", inputs, outputs, 1, 1, 1)
    return shapes


def _convolution(name: str, inputs: int, outputs: int) -> Shapes:
    return convolution(f"{name}.conv", inputs, outputs, 3, 3, 3)


LTX2 = FamilyParameters(
    ltx2_parameters, _STATISTICS, published=lambda config: LTX2_BY_UPSAMPLING.get(config.upsample_type, "")
)
