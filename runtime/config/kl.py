"""Config of the image VAE. Field names and defaults are those of diffusers' `AutoencoderKL` (0.42)."""

from dataclasses import dataclass
from typing import ClassVar

from ..errors import ConfigError
from .fields import (
    FromDict,
    require_bools,
    require_choices,
    require_int_tuple,
    require_ints,
    require_number,
    require_statistics,
)

__all__ = ["ACTIVATIONS", "AutoencoderKLConfig", "MissingScalingFactor"]

ACTIVATIONS = ("gelu", "mish", "relu", "silu", "swish")


class MissingScalingFactor(ConfigError):
    """An AutoencoderKL config without `scaling_factor`, a number that is never guessed."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderKLConfig(FromDict):
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
        require_ints(self, ("in_channels", "out_channels", "layers_per_block", "latent_channels", "norm_num_groups"))
        require_bools(self, ("force_upcast", "use_quant_conv", "use_post_quant_conv", "mid_block_add_attention"))
        require_int_tuple(self, "block_out_channels")
        require_choices(self, "down_block_types", ("DownEncoderBlock2D",))
        require_choices(self, "up_block_types", ("UpDecoderBlock2D",))
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
        require_number(self, "scaling_factor", positive=True)
        require_number(self, "shift_factor", optional=True)
        require_statistics(self)

    @property
    def spatial_ratio(self) -> int:
        """Pixels per latent cell along height and width."""
        return int(2 ** (len(self.block_out_channels) - 1))

    def min_latent_size(self, component: str) -> int:
        """Fewest latent cells along height or width that a component takes."""
        return 1


def _require_activation(config: AutoencoderKLConfig) -> None:
    if not isinstance(config.act_fn, str) or config.act_fn.lower() not in ACTIVATIONS:
        raise ConfigError(
            f"config: act_fn names {config.act_fn!r}, which is not supported; supported: {', '.join(ACTIVATIONS)}"
        )
