"""Latents from a file, as model latents: checked against the bundle and, if they are diffusion latents, unscaled."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.latent_space import likely_space
from ..autoencoders.autoencoder import Autoencoder
from ..config.model_config import ModelConfig
from ..errors import InputError
from ..media.latents_file import LatentsFile

__all__ = ["model_latents"]

_log = logging.getLogger(__name__)


def model_latents(vae: Autoencoder, content: LatentsFile, source: Path, *, scaled: bool) -> NDArray[np.float32]:
    """The latents of a file as the decoder takes them, float32 (B, C, h, w) or (B, C, t, h, w).

    `scaled`: the user says that they are diffusion latents. Otherwise the file's metadata says so or not; without
    metadata they are model latents. One warning says so if their statistics are those of the other space. Nothing is
    changed by it, and a file whose metadata names its space is believed.

    Raises:
        InputError: latents of another family, rank or number of channels, or metadata that contradicts `scaled`.
    """
    if content.family is not None and content.family != vae.family:
        raise InputError(
            f"{source} holds latents of {content.family[:80]!r} and the bundle is {vae.family}: give the other one"
        )
    if scaled and content.scaled is False:
        raise InputError(f"{source} says that it holds model latents, not diffusion latents: leave --scaled out")
    latents = np.asarray(content.latents, np.float32)
    if latents.ndim != (5 if vae.video else 4):
        raise InputError(f"{source} holds latents of shape {latents.shape}, which {vae.family} does not take")
    as_diffusion = bool(scaled or content.scaled)
    if vae.config.packing is not None:
        _check_packing(vae.config, latents, source, as_diffusion)
    if content.scaled is None:
        _warn_of_other_space(vae.config, latents, source, as_diffusion)
    return vae.unscale_latents(latents) if as_diffusion else latents


def _check_packing(config: ModelConfig, latents: NDArray[Any], source: Path, as_diffusion: bool) -> None:
    """Refuse packed latents where model latents are wanted, or the other way round: they differ in channels."""
    channels = latents.shape[1]
    if not as_diffusion and channels == config.diffusion_channels:
        raise InputError(
            f"{source} holds {channels} channels, which are diffusion latents of {config.family} (its model latents "
            f"have {config.latent_channels}): give --scaled"
        )
    if as_diffusion and channels == config.latent_channels:
        raise InputError(
            f"{source} holds {channels} channels, which are model latents of {config.family} (its diffusion latents "
            f"have {config.diffusion_channels}): leave --scaled out"
        )


def _warn_of_other_space(config: ModelConfig, latents: NDArray[Any], source: Path, as_diffusion: bool) -> None:
    space = likely_space(latents, config)
    if as_diffusion and space == "model":
        _log.warning(
            "%s: --scaled takes these for diffusion latents, but per channel they have the mean and deviation of model "
            "latents: if a pipeline that gives those made them (LTX-2, FLUX.2 Klein), leave --scaled out",
            source,
        )
    if not as_diffusion and space == "diffusion":
        _log.warning(
            "%s: without --scaled these are taken for model latents, but per channel they have the mean and deviation "
            "of diffusion latents: if a pipeline that gives those made them (SD, SDXL, SD3, FLUX.1), give --scaled",
            source,
        )
