"""Config of the LTX-2 video VAE. Field names and defaults are those of diffusers' `AutoencoderKLLTX2Video` (0.42)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from ...tiling.plain_text import shown
from ...tiling.public_place import shown_in
from ..errors import ConfigError
from .fields import (
    require_bools,
    require_choices,
    require_flags,
    require_int_tuple,
    require_ints,
    require_number,
    require_statistics,
)
from .model_config import ModelConfig, NoiseStack, PassMemory

__all__ = ["SAMPLING_STRIDES", "AutoencoderKLLTX2VideoConfig"]

_LIVE_CHANNELS: Mapping[str, tuple[float, float]] = {"decoder": (3.0, 2.3), "encoder": (4.4, 4.2)}
"""Channels that a pass holds at once at the patches' resolution: this many times those of the narrowest layer, or this
many times those of a patch if that is more. Measured with ONNX Runtime."""

PADDING_MODES = ("reflect", "zeros")
SAMPLING_STRIDES = {"spatial": (1, 2, 2), "temporal": (2, 1, 1), "spatiotemporal": (2, 2, 2)}


@shown_in("latentrt.runtime")
@dataclass(frozen=True, kw_only=True, repr=False)
class AutoencoderKLLTX2VideoConfig(ModelConfig):
    """Config of the LTX-2 video VAE.

    As in diffusers, the `decoder_*` and `upsample_*` tuples are listed from the picture to the latents, which is the
    reverse of the decoder's order. Only `upsample_type` is in decoding order. `latents_mean` and
    `latents_std` are the checkpoint's buffers, one number per latent channel.
    """

    family: ClassVar[str] = "AutoencoderKLLTX2Video"
    video: ClassVar[bool] = True
    supports_streams: ClassVar[bool] = True
    scaled_in_comfyui: ClassVar[bool] = True  # its VAE normalises by the statistics (comfy/ldm/lightricks/vae)

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 128
    block_out_channels: tuple[int, ...] = (256, 512, 1024, 2048)
    down_block_types: tuple[str, ...] = ("LTX2VideoDownBlock3D",) * 4
    decoder_block_out_channels: tuple[int, ...] = (256, 512, 1024)
    layers_per_block: tuple[int, ...] = (4, 6, 6, 2, 2)
    decoder_layers_per_block: tuple[int, ...] = (5, 5, 5, 5)
    spatio_temporal_scaling: bool | tuple[bool, ...] = (True, True, True, True)
    decoder_spatio_temporal_scaling: bool | tuple[bool, ...] = (True, True, True)
    decoder_inject_noise: bool | tuple[bool, ...] = (False, False, False, False)
    downsample_type: tuple[str, ...] = ("spatial", "temporal", "spatiotemporal", "spatiotemporal")
    upsample_type: tuple[str, ...] = ("spatiotemporal", "spatiotemporal", "spatiotemporal")
    upsample_residual: bool | tuple[bool, ...] = (True, True, True)
    upsample_factor: tuple[int, ...] = (2, 2, 2)
    timestep_conditioning: bool = False
    patch_size: int = 4
    patch_size_t: int = 1
    resnet_norm_eps: float = 1e-6
    scaling_factor: float = 1.0
    encoder_causal: bool = True
    decoder_causal: bool = True
    encoder_spatial_padding_mode: str = "zeros"
    decoder_spatial_padding_mode: str = "reflect"
    spatial_compression_ratio: int | None = None
    temporal_compression_ratio: int | None = None
    latents_mean: tuple[float, ...] | None = None
    latents_std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        require_ints(self, ("in_channels", "out_channels", "latent_channels", "patch_size", "patch_size_t"))
        require_bools(self, ("timestep_conditioning", "encoder_causal", "decoder_causal"))
        require_flags(self, ("spatio_temporal_scaling", "decoder_spatio_temporal_scaling"))
        require_flags(self, ("decoder_inject_noise", "upsample_residual"))
        for name in ("block_out_channels", "decoder_block_out_channels", "upsample_factor"):
            require_int_tuple(self, name)
        for name in ("layers_per_block", "decoder_layers_per_block"):
            require_int_tuple(self, name, minimum=0)
        require_choices(self, "down_block_types", ("LTX2VideoDownBlock3D",))
        require_choices(self, "downsample_type", (*SAMPLING_STRIDES, "conv"))
        require_choices(self, "upsample_type", tuple(SAMPLING_STRIDES))
        for name in ("encoder_spatial_padding_mode", "decoder_spatial_padding_mode"):
            if getattr(self, name) not in PADDING_MODES:
                raise ConfigError(
                    f"config: {name} must be one of {', '.join(PADDING_MODES)}, got {shown(getattr(self, name))}"
                )
        if self.patch_size_t != 1:
            raise ConfigError(
                f"config: patch_size_t must be 1 (no released model has another and diffusers' own code fails on it), "
                f"got {self.patch_size_t}"
            )
        require_number(self, "resnet_norm_eps", positive=True)
        require_number(self, "scaling_factor", positive=True)
        self._check_lengths()
        self._check_widths()
        require_statistics(self)
        if self._encoder_ratios() != self._decoder_ratios():
            raise ConfigError(
                f"config: encoder and decoder must scale alike, but the encoder's blocks give (time, space) = "
                f"{self._encoder_ratios()} and the decoder's {self._decoder_ratios()}; correct config.json"
            )

    @property
    def encoder_scaling(self) -> tuple[bool, ...]:
        """Whether each encoder block downsamples, in encoding order."""
        return _spread(self.spatio_temporal_scaling, len(self.layers_per_block) - 1)

    @property
    def decoder_scaling(self) -> tuple[bool, ...]:
        """Whether each decoder block upsamples, in decoding order."""
        return _spread(self.decoder_spatio_temporal_scaling, len(self.decoder_layers_per_block) - 1)[::-1]

    @property
    def inject_noise(self) -> tuple[bool, ...]:
        """Whether the mid block, and then each up block, adds noise, in decoding order."""
        blocks = len(self.decoder_block_out_channels) + 1
        return _spread(self.decoder_inject_noise, len(self.decoder_layers_per_block))[::-1][:blocks]

    @property
    def residual_upsampling(self) -> tuple[bool, ...]:
        """Whether each upsampler has a residual path, in decoding order."""
        return _spread(self.upsample_residual, len(self.decoder_layers_per_block) - 1)[::-1]

    @property
    def noise_stacks(self) -> tuple[NoiseStack, ...]:
        """The noise that one decode consumes, in order: one stack of maps per block that injects noise."""
        stacks, scale = [], 1
        layers = self.decoder_layers_per_block[::-1]
        for index, noisy in enumerate(self.inject_noise):
            if index and self.decoder_scaling[index - 1]:
                scale *= SAMPLING_STRIDES[self.upsample_type[index - 1]][1]
            if noisy:
                stacks.append(NoiseStack(index, 2 * layers[index], scale))
        return tuple(stacks)

    @property
    def spatial_ratio(self) -> int:
        """Pixels per latent cell along height and width, counted from the blocks. (diffusers' default for
        `spatial_compression_ratio` counts every block as spatial, which is wrong for LTX-2.)"""
        return self._decoder_ratios()[1]

    @property
    def temporal_ratio(self) -> int:
        """Frames per latent frame after the first, counted from the blocks."""
        return self._decoder_ratios()[0]

    def causal(self, component: str) -> bool:
        """`encoder_causal` or `decoder_causal`."""
        return self.encoder_causal if component == "encoder" else self.decoder_causal

    def without_conditions(self) -> Self:
        """The config of the same decoder without timesteps and noise, which change no shape."""
        return replace(self, timestep_conditioning=False, decoder_inject_noise=False)

    def pass_memory(self, component: str) -> PassMemory:
        """The widest activation has the first block's channels at the patches' resolution; sampling packs at most twice
        as many there."""
        widths = self.decoder_block_out_channels if component == "decoder" else self.block_out_channels
        narrowest, patch = min(widths), self.out_channels * self.patch_size**2
        patches = (self.spatial_ratio // self.patch_size) ** 2  # per latent cell
        by_width, by_patch = _LIVE_CHANNELS[component]
        return PassMemory(patches * max(2 * narrowest, patch), patches * max(by_width * narrowest, by_patch * patch))

    @property
    def layer_count(self) -> int:
        """Each layer has tensors of its own."""
        return sum(self.layers_per_block) + sum(self.decoder_layers_per_block)

    def min_latent_size(self, component: str) -> int:
        """The fewest latent cells along height or width that a component takes: reflect padding needs two."""
        encoder = component == "encoder"
        mode = self.encoder_spatial_padding_mode if encoder else self.decoder_spatial_padding_mode
        return 2 if mode == "reflect" else 1

    def _encoder_ratios(self) -> tuple[int, int]:
        return _ratios(
            [
                (2, 2, 2) if kind == "conv" else SAMPLING_STRIDES[kind]
                for kind, scaled in zip(self.downsample_type, self.encoder_scaling, strict=False)
                if scaled
            ],
            self.patch_size,
        )

    def _decoder_ratios(self) -> tuple[int, int]:
        strides = [
            SAMPLING_STRIDES[kind]
            for kind, scaled in zip(self.upsample_type, self.decoder_scaling, strict=False)
            if scaled
        ]
        return _ratios(strides, self.patch_size)

    def _check_lengths(self) -> None:
        down, up = len(self.block_out_channels), len(self.decoder_block_out_channels)
        wanted: dict[str, tuple[Sequence[Any], int]] = {
            "down_block_types": (self.down_block_types, down),
            "downsample_type": (self.downsample_type, down),
            "layers_per_block": (self.layers_per_block, down + 1),
            "spatio_temporal_scaling": (self.encoder_scaling, down),
            "decoder_layers_per_block": (self.decoder_layers_per_block, up + 1),
            "decoder_spatio_temporal_scaling": (self.decoder_scaling, up),
            "decoder_inject_noise": (self.inject_noise, up + 1),
            "upsample_type": (self.upsample_type, up),
            "upsample_residual": (self.residual_upsampling, up),
            "upsample_factor": (self.upsample_factor, up),
        }
        for name, (value, length) in wanted.items():
            if len(value) < length:
                raise ConfigError(
                    f"config: {name} needs {length} entries to match the block widths, got {len(value)}; "
                    f"correct config.json"
                )

    def _check_widths(self) -> None:
        width = self.latent_channels
        for index, out in enumerate(self.block_out_channels):
            kind, scaled = self.downsample_type[index], self.encoder_scaling[index]
            if not scaled or kind == "conv":
                if out != width:
                    raise ConfigError(
                        f"config: encoder block {index} keeps its {width} channels (it has no space-to-depth), so "
                        f"block_out_channels[{index}] must be {width}, got {out}"
                    )
                continue
            cells = math.prod(SAMPLING_STRIDES[kind])
            if out % cells or (width * cells) % out:
                raise ConfigError(
                    f"config: encoder block {index} packs {width} channels in groups of {cells} into {out}, which does "
                    f"not divide; correct block_out_channels"
                )
            width = out
        previous = self.decoder_block_out_channels[-1]
        factors = self.upsample_factor[::-1]
        for index, block in enumerate(self.decoder_block_out_channels[::-1]):
            factor, scaled = factors[index], self.decoder_scaling[index]
            plain = not (self.timestep_conditioning or self.inject_noise[index + 1])
            if factor != 1 and not scaled:
                raise ConfigError(f"config: decoder block {index} does not upsample, so its upsample_factor must be 1")
            if previous != block and not (factor == 1 and plain):
                raise ConfigError(
                    f"config: decoder block {index} takes {block} channels but gets {previous}; "
                    f"correct decoder_block_out_channels or upsample_factor"
                )
            cells = math.prod(SAMPLING_STRIDES[self.upsample_type[index]])
            if block % factor or (scaled and self.residual_upsampling[index] and (block % cells or cells % factor)):
                raise ConfigError(
                    f"config: decoder block {index} unpacks {block} channels by {cells} with upsample_factor {factor}, "
                    f"which does not divide; correct decoder_block_out_channels or upsample_factor"
                )
            previous = block // factor


def _spread(value: bool | tuple[bool, ...], length: int) -> tuple[bool, ...]:
    return (value,) * length if isinstance(value, bool) else value


def _ratios(strides: Sequence[tuple[int, int, int]], patch_size: int) -> tuple[int, int]:
    return math.prod(stride[0] for stride in strides), patch_size * math.prod(stride[1] for stride in strides)
