"""Model configs as frozen, validated values. Field names and defaults are those of diffusers' classes
(`AutoencoderKL` and `AutoencoderKLLTX2Video`, diffusers 0.42); numbers that change pixels are never guessed."""

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from .errors import ConfigError

__all__ = [
    "ACTIVATIONS",
    "SAMPLING_STRIDES",
    "AutoencoderKLConfig",
    "AutoencoderKLLTX2VideoConfig",
    "MissingScalingFactor",
    "ModelConfig",
    "NoiseStack",
    "config_from_dict",
]

ACTIVATIONS = ("gelu", "mish", "relu", "silu", "swish")
PADDING_MODES = ("reflect", "zeros")
SAMPLING_STRIDES = {"spatial": (1, 2, 2), "temporal": (2, 1, 1), "spatiotemporal": (2, 2, 2)}

_log = logging.getLogger(__name__)


class MissingScalingFactor(ConfigError):
    """An AutoencoderKL config without `scaling_factor`, a number that is never guessed."""


class _FromDict:
    """Reading and writing the JSON form that diffusers keeps in `config.json`."""

    family: ClassVar[str]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a config from parsed JSON. Keys with a leading underscore are notes, not fields.

        Raises:
            ConfigError: a value has the wrong type, contradicts another, or names something unsupported.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(key for key in values if key not in fields and not key.startswith("_"))
        if unknown:
            _log.warning("%s: config fields that are not known here are ignored: %s", cls.family, ", ".join(unknown))
        known = {key: _frozen(value) for key, value in values.items() if key in fields}
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, with `_class_name` as diffusers writes it."""
        values = dataclasses.asdict(self)  # type: ignore[call-overload]
        return {"_class_name": self.family, **{key: _thawed(value) for key, value in values.items()}}


@dataclass(frozen=True, kw_only=True)
class AutoencoderKLConfig(_FromDict):
    """Config of the image VAE (Stable Diffusion, SDXL, SD3, FLUX.1).

    `scaling_factor` has no default: Stable Diffusion needs 0.18215, SDXL 0.13025, and folders of SD 1.x and 2.x
    that lack it exist. `latents_mean` and `latents_std`, where given, hold one number per latent channel.
    """

    family: ClassVar[str] = "AutoencoderKL"
    temporal_ratio: ClassVar[int] = 1

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",)
    up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",)
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    act_fn: str = "silu"
    latent_channels: int = 4
    norm_num_groups: int = 32
    sample_size: int | tuple[int, ...] = 32
    scaling_factor: float | None = None
    shift_factor: float | None = None
    latents_mean: tuple[float, ...] | None = None
    latents_std: tuple[float, ...] | None = None
    force_upcast: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True

    def __post_init__(self) -> None:
        _require_ints(self, ("in_channels", "out_channels", "layers_per_block", "latent_channels", "norm_num_groups"))
        _require_bools(self, ("force_upcast", "use_quant_conv", "use_post_quant_conv", "mid_block_add_attention"))
        _require_int_tuple(self, "block_out_channels")
        _require_choices(self, "down_block_types", ("DownEncoderBlock2D",))
        _require_choices(self, "up_block_types", ("UpDecoderBlock2D",))
        _require_activation(self)
        blocks = len(self.block_out_channels)
        for name in ("down_block_types", "up_block_types"):
            if len(getattr(self, name)) != blocks:
                raise ConfigError(
                    f"config: {name} must name one block per entry of block_out_channels ({blocks}), "
                    f"got {len(getattr(self, name))}; correct config.json"
                )
        for width in self.block_out_channels:
            if width % self.norm_num_groups:
                raise ConfigError(
                    f"config: every entry of block_out_channels must be a multiple of norm_num_groups "
                    f"({self.norm_num_groups}), got {width}; correct config.json"
                )
        if self.scaling_factor is None:
            raise MissingScalingFactor(
                "config: AutoencoderKL needs scaling_factor and this config has none; pass --scaling-factor "
                "(diffusers' class defaults to 0.18215, right for Stable Diffusion 1.x and 2.x; SDXL has 0.13025)"
            )
        _require_number(self, "scaling_factor", positive=True)
        _require_number(self, "shift_factor", optional=True)
        _require_statistics(self)

    @property
    def spatial_ratio(self) -> int:
        """Pixels per latent cell along height and width."""
        return int(2 ** (len(self.block_out_channels) - 1))

    def min_latent_size(self, component: str) -> int:
        """Fewest latent cells along height or width that a component takes."""
        return 1


@dataclass(frozen=True)
class NoiseStack:
    """Noise for one decoder block: float32 (maps, scale * latent height, scale * latent width), standard normal,
    two maps per residual block, shared by all frames and the whole batch."""

    name: str
    maps: int
    scale: int


@dataclass(frozen=True, kw_only=True)
class AutoencoderKLLTX2VideoConfig(_FromDict):
    """Config of the LTX-2 video VAE.

    As in diffusers, the `decoder_*` and `upsample_*` tuples are listed from the picture towards the latents (the
    decoder walks them backwards), except `upsample_type`, which is in decoding order. `latents_mean` and
    `latents_std` are the checkpoint's buffers, one number per latent channel.
    """

    family: ClassVar[str] = "AutoencoderKLLTX2Video"

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
        _require_ints(self, ("in_channels", "out_channels", "latent_channels", "patch_size", "patch_size_t"))
        _require_bools(self, ("timestep_conditioning", "encoder_causal", "decoder_causal"))
        _require_flags(self, ("spatio_temporal_scaling", "decoder_spatio_temporal_scaling"))
        _require_flags(self, ("decoder_inject_noise", "upsample_residual"))
        for name in ("block_out_channels", "decoder_block_out_channels", "upsample_factor"):
            _require_int_tuple(self, name)
        for name in ("layers_per_block", "decoder_layers_per_block"):
            _require_int_tuple(self, name, minimum=0)
        _require_choices(self, "down_block_types", ("LTX2VideoDownBlock3D",))
        _require_choices(self, "downsample_type", (*SAMPLING_STRIDES, "conv"))
        _require_choices(self, "upsample_type", tuple(SAMPLING_STRIDES))
        for name in ("encoder_spatial_padding_mode", "decoder_spatial_padding_mode"):
            if getattr(self, name) not in PADDING_MODES:
                raise ConfigError(
                    f"config: {name} must be one of {', '.join(PADDING_MODES)}, got {getattr(self, name)!r}"
                )
        if self.patch_size_t != 1:
            raise ConfigError(
                f"config: patch_size_t must be 1 (no released model has another and diffusers' own code fails on it), "
                f"got {self.patch_size_t}"
            )
        _require_number(self, "resnet_norm_eps", positive=True)
        _require_number(self, "scaling_factor", positive=True)
        self._check_lengths()
        self._check_widths()
        _require_statistics(self)
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
        """Whether the mid block and then each up block adds noise, in decoding order."""
        blocks = len(self.decoder_block_out_channels) + 1
        return _spread(self.decoder_inject_noise, len(self.decoder_layers_per_block))[::-1][:blocks]

    @property
    def residual_upsampling(self) -> tuple[bool, ...]:
        """Whether each upsampler has a residual path, in decoding order."""
        return _spread(self.upsample_residual, len(self.decoder_layers_per_block) - 1)[::-1]

    @property
    def noise_stacks(self) -> tuple["NoiseStack", ...]:
        """The noise that a decode consumes, in order: one stack of maps per block that injects it."""
        stacks, scale = [], 1
        layers = self.decoder_layers_per_block[::-1]
        for index, noisy in enumerate(self.inject_noise):
            if index and self.decoder_scaling[index - 1]:
                scale *= SAMPLING_STRIDES[self.upsample_type[index - 1]][1]
            if noisy:
                name = "noise_mid_block" if index == 0 else f"noise_up_block_{index - 1}"
                stacks.append(NoiseStack(name, 2 * layers[index], scale))
        return tuple(stacks)

    @property
    def spatial_ratio(self) -> int:
        """Pixels per latent cell along height and width, counted from the blocks (diffusers' default for
        `spatial_compression_ratio` counts every block as spatial and is wrong for LTX-2)."""
        return self._decoder_ratios()[1]

    @property
    def temporal_ratio(self) -> int:
        """Frames per latent frame after the first, counted from the blocks."""
        return self._decoder_ratios()[0]

    def min_latent_size(self, component: str) -> int:
        """Fewest latent cells along height or width that a component takes: reflect padding needs two."""
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


ModelConfig = AutoencoderKLConfig | AutoencoderKLLTX2VideoConfig
_FAMILIES: dict[str, type[AutoencoderKLConfig] | type[AutoencoderKLLTX2VideoConfig]] = {
    config.family: config for config in (AutoencoderKLConfig, AutoencoderKLLTX2VideoConfig)
}


def config_from_dict(values: Mapping[str, Any]) -> ModelConfig:
    """Make the config of the family that `_class_name` names.

    Raises:
        ConfigError: no or an unknown class name, or a bad field.
    """
    name = values.get("_class_name")
    if not isinstance(name, str) or name not in _FAMILIES:
        raise ConfigError(
            f"config: _class_name must be one of {', '.join(_FAMILIES)}, got {name!r}; "
            f"is this the config.json of another kind of model?"
        )
    return _FAMILIES[name].from_dict(values)


def _spread(value: bool | tuple[bool, ...], length: int) -> tuple[bool, ...]:
    return (value,) * length if isinstance(value, bool) else value


def _ratios(strides: Sequence[tuple[int, int, int]], patch_size: int) -> tuple[int, int]:
    return math.prod(stride[0] for stride in strides), patch_size * math.prod(stride[1] for stride in strides)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _thawed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # JSON's whole numbers have no limit
        return False


def _require_ints(config: object, names: Sequence[str]) -> None:
    for name in names:
        value = getattr(config, name)
        if not _is_int(value) or value < 1:
            raise ConfigError(f"config: {name} must be a whole number of at least 1, got {value!r}")


def _require_bools(config: object, names: Sequence[str]) -> None:
    for name in names:
        if not isinstance(getattr(config, name), bool):
            raise ConfigError(f"config: {name} must be true or false, got {getattr(config, name)!r}")


def _require_flags(config: object, names: Sequence[str]) -> None:
    for name in names:
        value = getattr(config, name)
        if not all(isinstance(item, bool) for item in (value if isinstance(value, tuple) else (value,))):
            raise ConfigError(f"config: {name} must be true, false, or a list of these, got {value!r}")


def _require_int_tuple(config: object, name: str, minimum: int = 1) -> None:
    value = getattr(config, name)
    if not isinstance(value, tuple) or not value or not all(_is_int(item) and item >= minimum for item in value):
        raise ConfigError(f"config: {name} must be a list of whole numbers of at least {minimum}, got {value!r}")


def _require_choices(config: object, name: str, choices: Sequence[str]) -> None:
    value = getattr(config, name)
    if not isinstance(value, tuple) or not value:
        raise ConfigError(f"config: {name} must be a list of names, got {value!r}")
    for item in value:
        if item not in choices:
            raise ConfigError(f"config: {name} names {item!r}, which is not supported; supported: {', '.join(choices)}")


def _require_activation(config: AutoencoderKLConfig) -> None:
    if not isinstance(config.act_fn, str) or config.act_fn.lower() not in ACTIVATIONS:
        raise ConfigError(
            f"config: act_fn names {config.act_fn!r}, which is not supported; supported: {', '.join(ACTIVATIONS)}"
        )


def _require_number(config: object, name: str, *, positive: bool = False, optional: bool = False) -> None:
    value = getattr(config, name)
    if optional and value is None:
        return
    if not _is_finite(value) or (positive and value <= 0):
        kind = "a positive number" if positive else "a number"
        raise ConfigError(f"config: {name} must be {kind}, got {value!r}")


def _require_statistics(config: ModelConfig) -> None:
    if (config.latents_mean is None) != (config.latents_std is None):
        raise ConfigError("config: latents_mean and latents_std come together, and only one of them is given")
    for name in ("latents_mean", "latents_std"):
        value = getattr(config, name)
        if value is None:
            continue
        if not isinstance(value, tuple) or not all(map(_is_finite, value)) or len(value) != config.latent_channels:
            raise ConfigError(
                f"config: {name} must hold one finite number per latent channel ({config.latent_channels}), "
                f"got {len(value) if isinstance(value, tuple) else value!r}"
            )
    if config.latents_std is not None and not all(item > 0 for item in config.latents_std):
        raise ConfigError("config: latents_std must be positive in every channel")
