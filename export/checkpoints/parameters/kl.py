"""Image VAEs: the names and shapes of the parameters of a config, and the config that fits given shapes."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from ....runtime.config.image import ImageConfig
from ..published import model_of_numbers
from .family_parameters import FamilyParameters
from .shapes import Shapes, affine, convolution

__all__ = ["KL", "kl_fields", "kl_parameters"]


def kl_parameters(config: ImageConfig) -> Shapes:
    """Return the shape of every parameter and buffer of the model, by its diffusers name."""
    latents = config.latent_channels
    shapes: Shapes = _encoder(config) | _decoder(config)
    if config.use_quant_conv:
        shapes |= convolution("quant_conv", 2 * latents, 2 * latents, 1, 1)
    if config.use_post_quant_conv:
        shapes |= convolution("post_quant_conv", latents, latents, 1, 1)
    return shapes


def kl_fields(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Derive config fields from the shapes of parameters.

    Shapes determine neither the activation nor the scaling, which stay out. Two other fields are set to known values:
    `norm_num_groups` to 32, as in every LDM model, and `sample_size` to 512. diffusers derives its default tile from
    `sample_size`, and its class's default of 32 is that of no known model.

    Args:
        shapes: shape of each parameter, by its diffusers name.

    Raises:
        KeyError: a tensor that determines a field is missing.
    """
    if "bn.running_mean" in shapes:
        return _flux2_fields(shapes)
    return {"_class_name": "AutoencoderKL", **_image_fields(shapes)}


def _flux2_fields(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    fields = _image_fields(shapes)
    blocks = len(fields["block_out_channels"])
    widths = [shapes[f"decoder.up_blocks.{index}.resnets.0.conv1.weight"][0] for index in range(blocks)][::-1]
    smaller = {} if widths == fields["block_out_channels"] else {"decoder_block_out_channels": widths}
    return {"_class_name": "AutoencoderKLFlux2", **fields, **smaller}


def _image_fields(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    blocks = 1 + max(_indices(shapes, r"encoder\.down_blocks\.(\d{1,4})\."), default=0)
    widths = [shapes[f"encoder.down_blocks.{index}.resnets.0.conv1.weight"][0] for index in range(blocks)]
    return {
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "down_block_types": ["DownEncoderBlock2D"] * blocks,
        "up_block_types": ["UpDecoderBlock2D"] * blocks,
        "block_out_channels": widths,
        "layers_per_block": 1 + max(_indices(shapes, r"encoder\.down_blocks\.0\.resnets\.(\d{1,4})\."), default=0),
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "norm_num_groups": 32,
        "sample_size": 512,
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
        "mid_block_add_attention": "encoder.mid_block.attentions.0.to_q.weight" in shapes,
    }


def _indices(names: Mapping[str, Any], pattern: str) -> set[int]:
    return {int(match[1]) for match in map(re.compile(pattern).match, names) if match}


def _encoder(config: ImageConfig) -> Shapes:
    widths = config.block_out_channels
    shapes = convolution("encoder.conv_in", config.in_channels, widths[0], 3, 3)
    for index, (before, width) in enumerate(pairwise((widths[0], *widths))):
        block = f"encoder.down_blocks.{index}"
        shapes |= _resnets(f"{block}.resnets", before, width, config.layers_per_block)
        if index != len(widths) - 1:
            shapes |= convolution(f"{block}.downsamplers.0.conv", width, width, 3, 3)
    shapes |= _mid_block("encoder.mid_block", widths[-1], config)
    shapes |= affine("encoder.conv_norm_out", widths[-1])
    return shapes | convolution("encoder.conv_out", widths[-1], 2 * config.latent_channels, 3, 3)


def _decoder(config: ImageConfig) -> Shapes:
    widths = config.decoder_widths[::-1]
    shapes = convolution("decoder.conv_in", config.latent_channels, widths[0], 3, 3)
    shapes |= _mid_block("decoder.mid_block", widths[0], config)
    for index, (before, width) in enumerate(pairwise((widths[0], *widths))):
        block = f"decoder.up_blocks.{index}"
        shapes |= _resnets(f"{block}.resnets", before, width, config.layers_per_block + 1)
        if index != len(widths) - 1:
            shapes |= convolution(f"{block}.upsamplers.0.conv", width, width, 3, 3)
    shapes |= affine("decoder.conv_norm_out", widths[-1])
    return shapes | convolution("decoder.conv_out", widths[-1], config.out_channels, 3, 3)


def _mid_block(name: str, width: int, config: ImageConfig) -> Shapes:
    shapes = _resnets(f"{name}.resnets", width, width, 2)
    if config.mid_block_add_attention:
        attention = f"{name}.attentions.0"
        shapes |= affine(f"{attention}.group_norm", width)
        for projection in ("to_q", "to_k", "to_v", "to_out.0"):
            shapes |= convolution(f"{attention}.{projection}", width, width)
    return shapes


def _resnets(name: str, before: int, width: int, count: int) -> Shapes:
    shapes: Shapes = {}
    for index, inputs in enumerate((before, *[width] * (count - 1))):
        resnet = f"{name}.{index}"
        shapes |= affine(f"{resnet}.norm1", inputs) | convolution(f"{resnet}.conv1", inputs, width, 3, 3)
        shapes |= affine(f"{resnet}.norm2", width) | convolution(f"{resnet}.conv2", width, width, 3, 3)
        if inputs != width:
            shapes |= convolution(f"{resnet}.conv_shortcut", inputs, width, 1, 1)
    return shapes


KL = FamilyParameters(kl_parameters, published=model_of_numbers)
