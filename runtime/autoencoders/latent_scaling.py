"""Model latents and diffusion latents: the numbers between them are part of a bundle."""

import numpy as np
from numpy.typing import NDArray

from ..arrays import latents as latents_module
from ..arrays.padded_latents import original_size_of, with_original_size
from .bundle_model import BundleModel

__all__ = ["LatentScaling"]

Array = NDArray[np.float32]


class LatentScaling(BundleModel):
    """A model whose latents can be scaled as the diffusers pipelines scale them."""

    def scale_latents(self, z: Array) -> Array:
        """Model latents -> diffusion latents, as the diffusers pipelines scale them; float32 (B, C, ...)."""
        scaled = latents_module.scale_latents(self._host_latents(z, self.config.latent_channels), self.config)
        return with_original_size(scaled, original_size_of(z))

    def unscale_latents(self, z: Array) -> Array:
        """Diffusion latents -> model latents, what `decode` takes.

        The pipelines of Stable Diffusion, SDXL, SD3 and FLUX.1 give diffusion latents with `output_type="latent"`.
        LTX-2's and FLUX.2 Klein's give model latents: do not unscale those (docs/latents.md has the table).
        """
        unscaled = latents_module.unscale_latents(self._host_latents(z, self.config.diffusion_channels), self.config)
        return with_original_size(unscaled, original_size_of(z))

    def _host_latents(self, z: Array, channels: int) -> Array:
        return self.opened.jobs.array(z, "latents", channels, device="cpu")  # type: ignore[no-any-return]
