"""The LTX-2 video VAE at run time: conditioning and noise beside the latents."""

from __future__ import annotations  # or every annotation of a generator would import numpy.random

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import as_input, require_finite
from .autoencoder import Autoencoder
from .config import AutoencoderKLLTX2VideoConfig
from .errors import InputError
from .posterior import generator_from

__all__ = ["AutoencoderKLLTX2Video", "draw_noise"]


class AutoencoderKLLTX2Video(Autoencoder):
    """LTX-2.0, 2.3 and 2.5 (convolutional decoder). Arrays are (B, C, T, H, W).

    Timestep-conditioned decoders take `temb`, (B,) timesteps; decoders that inject noise take `rng`.
    """

    family = AutoencoderKLLTX2VideoConfig.family
    video = True

    def _conditions(
        self, latents: Any, temb: Any, rng: np.random.Generator | int | None
    ) -> dict[str, NDArray[np.float32]]:
        config = self._ltx_config
        if not config.timestep_conditioning:
            conditions = super()._conditions(latents, temb, rng)
        else:
            conditions = {"temb": _timesteps(temb, latents.shape[0])}
        if config.noise_stacks:
            if rng is None:
                raise InputError("rng: this decoder injects noise; give a numpy.random.Generator or a seed")
            conditions |= draw_noise(config, latents.shape[-2:], rng)
        return conditions

    def _neutral_conditions(self, batch: int) -> dict[str, Any]:
        conditioned = self._ltx_config.timestep_conditioning
        return {"temb": np.zeros(batch, np.float32) if conditioned else None, "rng": 0}

    @property
    def _ltx_config(self) -> AutoencoderKLLTX2VideoConfig:
        assert isinstance(self.config, AutoencoderKLLTX2VideoConfig)
        return self.config


def draw_noise(
    config: AutoencoderKLLTX2VideoConfig, latent_size: tuple[int, int], rng: np.random.Generator | int
) -> dict[str, NDArray[np.float32]]:
    """The noise of one decode, by graph input: standard normal maps drawn in the order in which they are used.

    The same seed and the same latent height and width give the same noise, whatever the batch or clip length.
    """
    generator = generator_from(rng)
    height, width = latent_size
    return {
        stack.name: generator.standard_normal((stack.maps, height * stack.scale, width * stack.scale), np.float32)
        for stack in config.noise_stacks
    }


def _timesteps(temb: Any, batch: int) -> NDArray[np.float32]:
    if temb is None:
        raise InputError("temb: this decoder is timestep-conditioned; give (B,) float32 timesteps (LTX-2 uses 0.05)")
    if isinstance(temb, int | float | np.number | list | tuple):
        try:
            temb = np.asarray(temb, np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(f"temb: wanted (B,) float32 timesteps, got {temb!r}") from error
    timesteps = as_input(temb, "temb")
    if timesteps.shape in ((), (1,)):
        timesteps = np.repeat(timesteps, batch)
    if timesteps.shape != (batch,):
        raise InputError(f"temb: wanted one timestep per batch element, ({batch},), got shape {timesteps.shape}")
    require_finite(timesteps, "temb")
    return timesteps  # type: ignore[no-any-return]
