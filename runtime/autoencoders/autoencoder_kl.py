"""The image VAE at run time."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ...tiling.public_place import shown_in
from ..calls.blends import ImageBlend
from ..calls.strip_settings import exact_strips
from ..calls.tiling_arguments import image_tiling
from ..config.kl import AutoencoderKLConfig
from ..errors import InputError
from .autoencoder import Autoencoder

__all__ = ["AutoencoderKL"]


@shown_in("latentrt.runtime")
class AutoencoderKL(Autoencoder):
    """Stable Diffusion, SDXL, SD3, FLUX.1. Arrays are (B, C, H, W)."""

    family = AutoencoderKLConfig.family

    def enable_tiling(
        self,
        tile_sample_min_height: int | None = None,
        tile_sample_min_width: int | None = None,
        tile_sample_stride_height: int | None = None,
        tile_sample_stride_width: int | None = None,
        *,
        tile_sample_min_size: int | None = None,
        tile_overlap_factor: float | None = None,
        blend: ImageBlend = "linear",
        tiles_per_call: int = 1,
        exact: bool = False,
        strip: int | Sequence[int] | None = None,
        memory_bytes: int | None = None,
        folder: str | os.PathLike[str] | None = None,
        storage: str = "float32",
    ) -> None:
        """Encode and decode in overlapping tiles from now on; a second call replaces the settings.

        Sizes and strides are in pixels, multiples of the spatial ratio; or `tile_sample_min_size` is both sizes and
        `tile_overlap_factor` the part of a tile by which two overlap. What is left out takes the blend's default.
        `blend`: "linear" (the weights of all tiles sum to one everywhere, every tile has one shape) or "diffusers"
        (diffusers' numbers; its tile is the config's `sample_size` and its factor 0.25). `tiles_per_call`: the most
        tiles that run as one batch.

        `exact`: strips with the pixels of a single pass (up to float32 rounding) for pictures of any size, instead of
        overlapping tiles. `strip`: pixel rows of a strip, or (rows, columns), multiples of the spatial ratio; None: as
        many rows as the budget allows. `memory_bytes`: that budget, what a call takes on the host without input and
        output (None: half of the memory that is available then). Activations beyond it lie in files without a name in
        `folder` (None: the system's folder for temporary files), which must have space for them. `storage`: "float16"
        keeps them in half the memory, and the result is no longer exact (`DecoderOutput.exact` is False); activations
        above 65504, which SDXL's VAE has, do not fit.

        Raises:
            InputError: an illegal value; the message names the nearest legal ones.
        """
        tiles = (tile_sample_min_height, tile_sample_min_width, tile_sample_stride_height, tile_sample_stride_width)
        if exact:
            others = (*tiles, tile_sample_min_size, tile_overlap_factor)
            if blend != "linear" or tiles_per_call != 1 or any(value is not None for value in others):
                raise InputError(
                    "enable_tiling: exact=True takes strip, memory_bytes, folder and storage, no tiles and no blend"
                )
            self._tile(exact_strips(self.grid, strip, memory_bytes, folder, storage))
            return
        if any(value is not None for value in (strip, memory_bytes, folder)) or storage != "float32":
            raise InputError("enable_tiling: strip, memory_bytes, folder and storage are for exact=True")
        settings = image_tiling(
            self.config,
            self.grid,
            blend=blend,
            sizes=tiles[:2],
            strides=tiles[2:],
            tile_sample_min_size=tile_sample_min_size,
            tile_overlap_factor=tile_overlap_factor,
            tiles_per_call=tiles_per_call,
        )
        self._tile(settings)
