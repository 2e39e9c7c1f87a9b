"""The diagonal Gaussian distribution of latents that an encoder returns.

Source: Kingma and Welling, "Auto-Encoding Variational Bayes" (2013). The clamp and the names are those of diffusers'
`DiagonalGaussianDistribution`. Arrays are (B, C, h, w) or (B, C, t, h, w).
"""

from __future__ import annotations  # otherwise annotations with np.random.Generator would import numpy.random

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...tiling.argument_names import argument
from ...tiling.public_place import shown_in
from ..errors import InputError
from .padded_latents import plain_array, with_original_size
from .shown_arrays import array_text

__all__ = ["DiagonalGaussian", "chosen_rng", "generator_from"]

Array = NDArray[np.float32]
_LOGVAR_MIN, _LOGVAR_MAX = -30.0, 20.0


def generator_from(rng: np.random.Generator | int) -> np.random.Generator:
    """The generator itself, or a new one from a seed.

    There is no default: the caller always chooses the randomness.

    Raises:
        InputError: `rng` is neither a generator nor a seed (a whole number from 0).
    """
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, int | np.integer) and not isinstance(rng, bool) and rng >= 0:
        return np.random.default_rng(int(rng))
    raise InputError(
        f"{argument('rng')} must be a numpy.random.Generator or a seed (a whole number from 0), got {rng!r}"
    )


def chosen_rng(rng: Any, generator: Any) -> Any:
    """The randomness that the caller gave, as `rng` or by diffusers' name `generator`. None: neither.

    Raises:
        InputError: both were given.
    """
    if rng is not None and generator is not None:
        raise InputError("rng and generator: both name the randomness of the call; give one of them")
    return generator if rng is None else rng


@shown_in("latentrt.runtime")
class DiagonalGaussian:
    """A Gaussian distribution with a mean and a variance for each element.

    Attributes:
        parameters: (B, 2C, ...), the mean and then the log-variance along the channel axis, as the encoder returns
            them. With `output="device"` they stay on the engine's device, and nothing else here can be used.
        original_size: the size of the sample, (H, W) or (T, H, W), if `encode(pad=True)` padded it. The latents of
            `mean`, `mode` and `sample` remember it, and `decode` cuts its result to it. None: nothing was padded.
    """

    def __init__(self, parameters: Any, original_size: tuple[int, ...] | None = None) -> None:
        if isinstance(parameters, np.ndarray) and (parameters.ndim < 2 or parameters.shape[1] % 2):
            raise InputError(f"moments must be (B, 2C, ...) with an even channel axis, got {parameters.shape}")
        self.parameters: Any = parameters
        self.original_size = original_size

    def __repr__(self) -> str:
        of = "" if self.original_size is None else f", original_size={self.original_size}"
        return f"DiagonalGaussian(parameters={array_text(self.parameters)}{of})"

    @property
    def mean(self) -> Array:
        """The mean, float32 (B, C, ...): a view of the parameters."""
        return with_original_size(self._halves()[0], self.original_size)

    @cached_property
    def logvar(self) -> Array:
        """The log-variance, float32 (B, C, ...), clamped to [-30, 20]."""
        return np.clip(self._halves()[1], _LOGVAR_MIN, _LOGVAR_MAX)

    @cached_property
    def std(self) -> Array:
        """The standard deviation, float32 (B, C, ...)."""
        return np.asarray(np.exp(0.5 * self.logvar), np.float32)

    @cached_property
    def var(self) -> Array:
        """The variance, float32 (B, C, ...)."""
        return np.exp(self.logvar)

    def mode(self) -> Array:
        """The most likely latents, float32 (B, C, ...): a copy of the mean."""
        return self.mean.copy()

    def sample(
        self,
        rng: np.random.Generator | int | Sequence[np.random.Generator | int] | None = None,
        *,
        generator: np.random.Generator | int | Sequence[np.random.Generator | int] | None = None,
    ) -> Array:
        """Draw latents, float32 (B, C, ...): mean + std * standard normal noise.

        Args:
            rng: a generator, a seed (a whole number from 0), or a list of them with one for each batch element.
            generator: diffusers' name for `rng`.

        Raises:
            InputError: no generator, or a list of another length than the batch.
        """
        mean = self._halves()[0]
        noise = _noise(mean.shape, chosen_rng(rng, generator))
        drawn = np.asarray(mean + self.std * noise, dtype=np.float32)
        return with_original_size(drawn, self.original_size)

    def kl(self, other: DiagonalGaussian | None = None) -> Array:
        """The Kullback-Leibler divergence from another distribution, float32 (B,), in nats.

        It is summed over every axis except the batch. (diffusers sums three axes, and so leaves the width of a video.)

        Args:
            other: the other distribution. None means the standard normal distribution.
        """
        if other is None:
            terms = np.square(self._halves()[0]) + self.var - 1.0 - self.logvar
        else:
            if other.parameters.shape != self.parameters.shape:
                raise InputError(
                    f"kl: both distributions must have one shape, got moments {self.parameters.shape} and "
                    f"{other.parameters.shape}"
                )
            terms = np.square(self._halves()[0] - plain_array(other.mean)) / other.var + self.var / other.var
            terms += other.logvar - self.logvar - 1.0
        return _sum(terms) * np.float32(0.5)

    def nll(self, sample: Array) -> Array:
        """The negative log-likelihood of latents (B, C, ...), float32 (B,), in nats, summed like `kl`."""
        if sample.shape != self.mean.shape:
            raise InputError(f"nll: the sample must have the mean's shape {self.mean.shape}, got {sample.shape}")
        terms = math.log(2.0 * math.pi) + self.logvar + np.square(plain_array(sample) - self._halves()[0]) / self.var
        return _sum(terms) * np.float32(0.5)

    def _halves(self) -> tuple[Array, Array]:
        if not isinstance(self.parameters, np.ndarray):
            raise InputError("the moments are on the engine's device: use .parameters there, or encode without output=")
        channels = self.parameters.shape[1] // 2
        return self.parameters[:, :channels], self.parameters[:, channels:]


def _noise(shape: tuple[int, ...], rng: Any) -> Array:
    """Standard normal noise from one generator, or with one generator for each element of the batch."""
    if not isinstance(rng, list | tuple):
        return generator_from(rng).standard_normal(shape, dtype=np.float32)
    if len(rng) == 1:
        return _noise(shape, rng[0])
    if len(rng) != shape[0]:
        raise InputError(f"{argument('rng')}: wanted one generator for each of {shape[0]} elements, got {len(rng)}")
    return np.stack([generator_from(one).standard_normal(shape[1:], dtype=np.float32) for one in rng])


def _sum(terms: Array) -> Array:
    axes = tuple(range(1, terms.ndim))
    return np.asarray(terms.sum(axis=axes, dtype=np.float64), dtype=np.float32)
