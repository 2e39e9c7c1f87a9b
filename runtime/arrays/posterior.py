"""The diagonal Gaussian that an encoder describes, and sampling from it. NumPy alone.

Source: Kingma and Welling, "Auto-Encoding Variational Bayes" (2013); clamp and names as in diffusers'
`DiagonalGaussianDistribution`. Arrays are (B, C, h, w) or (B, C, t, h, w).
"""

from __future__ import annotations  # or every annotation of a generator would import numpy.random

import math
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

__all__ = ["DiagonalGaussian", "generator_from"]

Array = NDArray[np.float32]
_LOGVAR_MIN, _LOGVAR_MAX = -30.0, 20.0


def generator_from(rng: np.random.Generator | int) -> np.random.Generator:
    """A generator, from itself or from a seed.

    Raises:
        InputError: neither; randomness is always asked for by the caller.
    """
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, int | np.integer) and not isinstance(rng, bool) and rng >= 0:
        return np.random.default_rng(int(rng))
    raise InputError(f"rng must be a numpy.random.Generator or a seed (a whole number from 0), got {rng!r}")


class DiagonalGaussian:
    """A Gaussian with its own mean and variance per element.

    `parameters` is (B, 2C, ...): the mean, then the log-variance, which is clamped to [-30, 20]. Parameters that an
    engine left on its device are kept as they are; everything else here needs them on the host.
    """

    def __init__(self, parameters: Any) -> None:
        if isinstance(parameters, np.ndarray) and (parameters.ndim < 2 or parameters.shape[1] % 2):
            raise InputError(f"moments must be (B, 2C, ...) with an even channel axis, got {parameters.shape}")
        self.parameters: Any = parameters

    @property
    def mean(self) -> Array:
        """(B, C, ...), a view of the parameters."""
        return self._halves()[0]

    @cached_property
    def logvar(self) -> Array:
        """(B, C, ...), clamped to [-30, 20]."""
        return np.clip(self._halves()[1], _LOGVAR_MIN, _LOGVAR_MAX)

    @cached_property
    def std(self) -> Array:
        return np.asarray(np.exp(0.5 * self.logvar), np.float32)

    @cached_property
    def var(self) -> Array:
        return np.exp(self.logvar)

    def mode(self) -> Array:
        """The most likely latents: the mean, as an array of its own."""
        return self.mean.copy()

    def sample(self, rng: np.random.Generator | int) -> Array:
        """Latents drawn from the distribution, float32 (B, C, ...): mean + std * standard normal noise."""
        noise = generator_from(rng).standard_normal(self.mean.shape, dtype=np.float32)
        return np.asarray(self.mean + self.std * noise, dtype=np.float32)

    def kl(self, other: DiagonalGaussian | None = None) -> Array:
        """Kullback-Leibler divergence from `other` (None: the standard normal), float32 (B,), in nats: summed over
        every axis but the batch. (diffusers' sums three axes and leaves a video's width.)"""
        if other is None:
            terms = np.square(self.mean) + self.var - 1.0 - self.logvar
        else:
            if other.parameters.shape != self.parameters.shape:
                raise InputError(
                    f"kl: both distributions must have one shape, got moments {self.parameters.shape} and "
                    f"{other.parameters.shape}"
                )
            terms = np.square(self.mean - other.mean) / other.var + self.var / other.var
            terms += other.logvar - self.logvar - 1.0
        return _sum(terms) * np.float32(0.5)

    def nll(self, sample: Array) -> Array:
        """Negative log-likelihood of `sample` (B, C, ...), float32 (B,), in nats: summed like `kl`."""
        if sample.shape != self.mean.shape:
            raise InputError(f"nll: the sample must have the mean's shape {self.mean.shape}, got {sample.shape}")
        terms = math.log(2.0 * math.pi) + self.logvar + np.square(sample - self.mean) / self.var
        return _sum(terms) * np.float32(0.5)

    def _halves(self) -> tuple[Array, Array]:
        if not isinstance(self.parameters, np.ndarray):
            raise InputError("the moments are on the engine's device: use .parameters there, or encode without output=")
        channels = self.parameters.shape[1] // 2
        return self.parameters[:, :channels], self.parameters[:, channels:]


def _sum(terms: Array) -> Array:
    axes = tuple(range(1, terms.ndim))
    return np.asarray(terms.sum(axis=axes, dtype=np.float64), dtype=np.float32)
