"""Which space latents are in, by their statistics: the model's own, or the denoiser's.

A model's config says what its latents look like. Diffusion latents have mean 0 and deviation 1. Model latents have the
mean and the deviation that `unscale_latents` gives them: per channel where the config holds statistics, else one number
of each. The comparison is a likelihood ratio of the two Gaussians.

A single picture may be far from the average of all pictures, so a verdict needs four things:

- enough latents (`_LEAST_CELLS` and `_LEAST_ELEMENTS`);
- spaces that differ enough (`_LEAST_DIVERGENCE`): those of Stable Diffusion 3 do not;
- a likelihood ratio with a margin (`_MARGIN`);
- latents that are plausible in the space that is named (`_MOST_LOG_POWER`): zeros, and what a model of random weights
  gives, are plausible in neither.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..config.model_config import ModelConfig
from ..errors import InputError
from .latents import mean_and_factor, packed_latents

__all__ = ["Space", "likely_space"]

Space = Literal["model", "diffusion"]

_LEAST_CELLS = 8  # per channel: below this a deviation says nothing
_LEAST_ELEMENTS = 512
_MOST_ELEMENTS = 1 << 22  # of larger latents, every n-th frame or row is enough
_LEAST_DIVERGENCE = 0.3  # nats per element, the smaller Kullback-Leibler divergence; SD3 has 0.14, FLUX.1 0.58, SD 1.2
_MARGIN = 0.35  # nats per element
_MOST_LOG_POWER = 0.8  # of the mean square, in deviations of the named space: 0.45 to 2.2


def likely_space(latents: NDArray[np.floating], config: ModelConfig) -> Space | None:
    """The space that latents (B, C, ...) look like, or None if their statistics do not tell.

    Where the family packs latents, model latents have `latent_channels` channels and diffusion latents
    `diffusion_channels`.
    """
    if config.missing_statistics:
        return None
    if latents.shape[1] == config.latent_channels:
        try:
            latents = packed_latents(latents, config)
        except InputError:  # an odd height or width, which only model latents have
            return None
    mean, factor = (array.reshape(-1) for array in mean_and_factor(config, latents.ndim))
    channels = latents.shape[1]
    if latents.size < _LEAST_ELEMENTS or latents.size < _LEAST_CELLS * channels or mean.size not in (1, channels):
        return None
    if _divergence(mean, 1 / factor) < _LEAST_DIVERGENCE:
        return None
    latents = latents[:, :, :: -(-latents.size // _MOST_ELEMENTS)]
    axes = (0, *range(2, latents.ndim))
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite gets no verdict
        average = latents.mean(axis=axes, dtype=np.float64)
        variance = latents.var(axis=axes, dtype=np.float64)
        as_diffusion = float(np.mean(average**2 + variance))
        as_model = float(np.mean(((average - mean) ** 2 + variance) * factor**2))
    if not np.isfinite(as_diffusion) or not np.isfinite(as_model) or min(as_diffusion, as_model) <= 0:
        return None
    gap = float(np.mean(np.log(factor))) + (as_diffusion - as_model) / 2  # of the log likelihoods, model - diffusion
    if gap >= _MARGIN and abs(np.log(as_model)) <= _MOST_LOG_POWER:
        return "model"
    if gap <= -_MARGIN and abs(np.log(as_diffusion)) <= _MOST_LOG_POWER:
        return "diffusion"
    return None


def _divergence(mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> float:
    """The smaller of the two Kullback-Leibler divergences of the model's space and the diffusion space, per element."""
    log = np.log(deviation)
    from_model = float(np.mean((mean**2 + deviation**2 - 1) / 2 - log))
    from_diffusion = float(np.mean(((mean**2 + 1) / deviation**2 - 1) / 2 + log))
    return min(from_model, from_diffusion)
