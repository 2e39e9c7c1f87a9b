"""The space that latents are in, judged by their statistics: model latents or diffusion latents.

Diffusion latents have mean 0 and standard deviation 1. Model latents have the mean and the standard deviation that
`unscale_latents` gives them: one per channel if the config has statistics, else one for all channels. The two Gaussians
are compared by their likelihood ratio.

A single picture may be far from the average of all pictures, so a verdict has four conditions:

- There are enough latents (`_LEAST_CELLS` and `_LEAST_ELEMENTS`).
- The two spaces differ enough (`_LEAST_DIVERGENCE`). Those of Stable Diffusion 3 do not.
- The likelihood ratio has a margin (`_MARGIN`).
- The latents are plausible in the space of the verdict (`_MOST_LOG_POWER`). Zeros and the latents of a model with
  random weights are plausible in neither space.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..config.model_config import ModelConfig
from ..errors import InputError
from .latents import mean_and_factor, packed_latents

__all__ = ["Space", "likely_space"]

Space = Literal["model", "diffusion"]

_LEAST_CELLS = 8  # per channel; fewer cells give no usable standard deviation
_LEAST_ELEMENTS = 512
_MOST_ELEMENTS = 1 << 22  # of larger latents, only every n-th frame or row is used
# The smaller Kullback-Leibler divergence between the two spaces, in nats per element. SD3 has 0.14, FLUX.1 0.58, and
# SD 1.2.
_LEAST_DIVERGENCE = 0.3
_MARGIN = 0.35  # of the log likelihood ratio, in nats per element
_MOST_LOG_POWER = 0.8  # of the log of the mean square of normalised latents: a mean square from 0.45 to 2.2


def likely_space(latents: NDArray[np.floating], config: ModelConfig) -> Space | None:
    """The space that latents seem to be in, or None if their statistics do not decide it.

    Args:
        latents: (B, C, ...). If the family packs latents, C is `latent_channels` or `diffusion_channels`.
        config: the model's config.
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
    with np.errstate(invalid="ignore", over="ignore"):  # values that are not finite give no verdict
        average = latents.mean(axis=axes, dtype=np.float64)
        variance = latents.var(axis=axes, dtype=np.float64)
        as_diffusion = float(np.mean(average**2 + variance))
        as_model = float(np.mean(((average - mean) ** 2 + variance) * factor**2))
    if not np.isfinite(as_diffusion) or not np.isfinite(as_model) or min(as_diffusion, as_model) <= 0:
        return None
    # The log of the likelihood as model latents over the likelihood as diffusion latents, in nats per element.
    log_ratio = float(np.mean(np.log(factor))) + (as_diffusion - as_model) / 2
    if log_ratio >= _MARGIN and abs(np.log(as_model)) <= _MOST_LOG_POWER:
        return "model"
    if log_ratio <= -_MARGIN and abs(np.log(as_diffusion)) <= _MOST_LOG_POWER:
        return "diffusion"
    return None


def _divergence(mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> float:
    """The smaller of the two Kullback-Leibler divergences between model and diffusion latents, in nats per element."""
    log = np.log(deviation)
    from_model = float(np.mean((mean**2 + deviation**2 - 1) / 2 - log))
    from_diffusion = float(np.mean(((mean**2 + 1) / deviation**2 - 1) / 2 + log))
    return min(from_model, from_diffusion)
