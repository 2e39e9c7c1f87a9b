"""Config of the image VAE. Field names and defaults are those of diffusers' `AutoencoderKL` (0.42)."""

from dataclasses import dataclass
from typing import ClassVar

from ...tiling.public_place import shown_in
from ..errors import ConfigError
from .fields import require_bools, require_number, require_statistics
from .image import ImageConfig

__all__ = ["AutoencoderKLConfig", "MissingScalingFactor"]


class MissingScalingFactor(ConfigError):
    """An AutoencoderKL config lacks `scaling_factor` or `shift_factor`: numbers that change pixels are never guessed.

    Attributes:
        fields: the config fields that are missing.
    """

    def __init__(self, message: str, fields: tuple[str, ...] = ("scaling_factor",)) -> None:
        super().__init__(message)
        self.fields = fields


@shown_in("latentrt.runtime")
@dataclass(frozen=True, kw_only=True, repr=False)
class AutoencoderKLConfig(ImageConfig):
    """Config of the image VAE (Stable Diffusion, SDXL, SD3, FLUX.1).

    `scaling_factor` has no default: Stable Diffusion needs 0.18215 and SDXL 0.13025, and some folders of SD 1.x and
    2.x lack it. `latents_mean` and `latents_std` hold one number per latent channel, or are None.
    """

    family: ClassVar[str] = "AutoencoderKL"

    scaling_factor: float | None = None
    shift_factor: float | None = None
    latents_mean: tuple[float, ...] | None = None
    latents_std: tuple[float, ...] | None = None
    force_upcast: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_bools(self, ("force_upcast",))
        if self.scaling_factor is None:
            raise MissingScalingFactor(
                "config: AutoencoderKL needs scaling_factor and this config has none; pass --scaling-factor "
                "(diffusers' class defaults to 0.18215, right for Stable Diffusion 1.x and 2.x; SDXL has 0.13025)"
            )
        require_number(self, "scaling_factor", positive=True)
        require_number(self, "shift_factor", optional=True)
        require_statistics(self)
