"""Config of the image VAE of FLUX.2. Field names and defaults are those of diffusers' `AutoencoderKLFlux2` (0.42)."""

import math
from dataclasses import dataclass
from typing import ClassVar

from ...tiling.public_place import shown_in
from ..errors import ConfigError
from .fields import require_int_tuple, require_number, require_numbers
from .image import ImageConfig

__all__ = ["AutoencoderKLFlux2Config"]


@shown_in("latentrt.runtime")
@dataclass(frozen=True, kw_only=True, repr=False)
class AutoencoderKLFlux2Config(ImageConfig):
    """Config of the image VAE of FLUX.2: `AutoencoderKL`'s structure, with latents that are packed 2x2 and normalised.

    `bn_running_mean` and `bn_running_var` are the checkpoint's batch-norm buffers, one number per packed channel
    (4 * latent_channels).
    """

    family: ClassVar[str] = "AutoencoderKLFlux2"
    # ComfyUI's VAE applies the batch norm, and packs (comfy/ldm/models/autoencoder.py).
    scaled_in_comfyui: ClassVar[bool] = True

    down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",) * 4
    up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",) * 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_channels: int = 32
    sample_size: int | tuple[int, ...] = 1024
    decoder_block_out_channels: tuple[int, ...] | None = None
    batch_norm_eps: float = 1e-4
    batch_norm_momentum: float = 0.1
    patch_size: tuple[int, ...] = (2, 2)
    bn_running_mean: tuple[float, ...] | None = None
    bn_running_var: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoder_block_out_channels is not None:
            require_int_tuple(self, "decoder_block_out_channels")
            self._check_groups("decoder_block_out_channels", self.decoder_block_out_channels)
            if len(self.decoder_block_out_channels) != len(self.block_out_channels):
                raise ConfigError(
                    f"config: decoder_block_out_channels must have as many entries as block_out_channels "
                    f"({len(self.block_out_channels)}), got {len(self.decoder_block_out_channels)}; correct config.json"
                )
        require_number(self, "batch_norm_eps", positive=True)
        if self.patch_size != (2, 2):
            raise ConfigError(
                f"config: patch_size must be [2, 2] (no released model has another and diffusers' pipeline takes "
                f"no other), got {self.patch_size}"
            )
        if (self.bn_running_mean is None) != (self.bn_running_var is None):
            raise ConfigError("config: bn_running_mean and bn_running_var come together, and only one of them is given")
        for name in ("bn_running_mean", "bn_running_var"):
            require_numbers(self, name, self.diffusion_channels)
        if self.bn_running_var is not None and not all(value >= 0 for value in self.bn_running_var):
            raise ConfigError("config: bn_running_var must not be negative in any channel")

    @property
    def decoder_widths(self) -> tuple[int, ...]:
        """The decoder's channels, in the order of `block_out_channels`: from the picture to the latents."""
        return self.decoder_block_out_channels or self.block_out_channels

    @property
    def packing(self) -> tuple[int, int]:
        """`patch_size`."""
        rows, columns = self.patch_size
        return rows, columns

    @property
    def missing_statistics(self) -> tuple[str, ...]:
        """Latents cannot be scaled without the batch norm's buffers."""
        return ("bn_running_mean", "bn_running_var") if self.bn_running_mean is None else ()

    @property
    def latents_mean(self) -> tuple[float, ...] | None:
        """Per packed channel."""
        return self.bn_running_mean

    @property
    def latents_std(self) -> tuple[float, ...] | None:
        """Per packed channel."""
        if self.bn_running_var is None:
            return None
        return tuple(math.sqrt(value + self.batch_norm_eps) for value in self.bn_running_var)
