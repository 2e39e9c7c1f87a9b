"""The image VAE at run time."""

from .autoencoder import Autoencoder
from .config import AutoencoderKLConfig, ImageConfig
from .tiling_arguments import image_tiling

__all__ = ["AutoencoderKL"]


class AutoencoderKL(Autoencoder):
    """Stable Diffusion, SDXL, SD3, FLUX.1. Arrays are (B, C, H, W)."""

    family = AutoencoderKLConfig.family
    video = False

    def enable_tiling(
        self,
        tile_sample_min_height: int | None = None,
        tile_sample_min_width: int | None = None,
        tile_sample_stride_height: int | None = None,
        tile_sample_stride_width: int | None = None,
        *,
        tile_sample_min_size: int | None = None,
        tile_overlap_factor: float | None = None,
        blend: str = "linear",
        tiles_per_call: int = 1,
    ) -> None:
        """Encode and decode in overlapping tiles from now on; a second call replaces the settings.

        Sizes and strides are in pixels, multiples of the spatial ratio; or `tile_sample_min_size` is both sizes and
        `tile_overlap_factor` the part of a tile by which two overlap. What is left out takes the blend's default.
        `blend`: "linear" (the weights of all tiles sum to one everywhere, every tile has one shape) or "diffusers"
        (diffusers' numbers; its tile is the config's `sample_size` and its factor 0.25). `tiles_per_call`: the most
        tiles that run as one batch.

        Raises:
            InputError: an illegal value; the message names the nearest legal ones.
        """
        assert isinstance(self.config, ImageConfig)
        self._tiling = image_tiling(
            self.config,
            self.grid,
            blend=blend,
            sizes=(tile_sample_min_height, tile_sample_min_width),
            strides=(tile_sample_stride_height, tile_sample_stride_width),
            tile_sample_min_size=tile_sample_min_size,
            tile_overlap_factor=tile_overlap_factor,
            tiles_per_call=tiles_per_call,
        )
        self._use_tiling = True
