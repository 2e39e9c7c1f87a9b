"""Conversion of the latents in a file to model latents, with checks against the bundle."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.latent_space import likely_space
from ..arrays.packed_latents import is_packed, unpacked_latents
from ..autoencoders.autoencoder import Autoencoder
from ..config.model_config import ModelConfig
from ..errors import InputError
from ..media.latents_file import LatentsFile

__all__ = ["model_latents"]

_log = logging.getLogger(__name__)


def model_latents(
    vae: Autoencoder,
    content: LatentsFile,
    source: Path,
    *,
    scaled: bool,
    height: int | None = None,
    width: int | None = None,
) -> NDArray[np.float32]:
    """The model latents in a file, as the decoder takes them.

    A warning is logged if the statistics of the latents are those of the other space. The latents are converted as
    requested anyway. Files whose metadata names the space are not checked.

    Args:
        vae: the decoding model.
        content: the content of the file. Its latents may lack the axis of the batch, or be the tokens of a FLUX
            pipeline, which are diffusion latents.
        source: the file, for messages.
        scaled: whether the user says that the file holds diffusion latents. If False, the metadata decides. Without
            metadata, the latents are model latents.
        height: the height in pixels of the picture that packed latents are of. None takes that of the metadata.
        width: the width, likewise.

    Returns:
        float32 (B, C, h, w) or (B, C, t, h, w).

    Raises:
        InputError: the latents have another family, rank or number of channels than the model, or the metadata
            contradicts `scaled`.
    """
    config, latents = vae.config, np.asarray(content.latents, np.float32)
    if content.family is not None and content.family != vae.family:
        raise InputError(
            f"{source} holds latents of {content.family[:80]!r} and the bundle is {vae.family}: give "
            "latents and a bundle of the same family"
        )
    stated = config.scaled_in_comfyui if content.comfyui else content.scaled
    if scaled and stated is False:
        writer = "was written by ComfyUI, so it" if content.comfyui else "says that it"
        raise InputError(f"{source} {writer} holds model latents, not diffusion latents: leave --scaled out")
    size = (height or content.height, width or content.width)
    if is_packed(latents, config, *size):
        try:
            return vae.unscale_latents(unpacked_latents(latents, config, *size))
        except InputError as error:
            raise InputError(f"{source} holds {error} (--height and --width)") from error
    if height is not None or width is not None:
        raise InputError(f"{source} holds no packed latents of a FLUX pipeline: leave --height and --width out")
    rank = 5 if vae.video else 4
    if latents.ndim == rank - 1 and latents.shape[0] in (config.latent_channels, config.diffusion_channels):
        latents = latents[np.newaxis]
    if latents.ndim != rank:
        raise InputError(f"{source} holds latents of shape {latents.shape}, which {vae.family} does not take")
    as_diffusion = bool(scaled or stated)
    if config.packing is not None:
        _check_packing(config, latents, source, as_diffusion)
    if stated is None:
        _warn_of_other_space(config, latents, source, as_diffusion)
    return vae.unscale_latents(latents) if as_diffusion else latents


def _check_packing(config: ModelConfig, latents: NDArray[Any], source: Path, as_diffusion: bool) -> None:
    """Check the space of packed latents by their channels, which differ between the two spaces."""
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
            "%s: --scaled says that these are diffusion latents, but per channel they have the mean and deviation of "
            "model latents: leave --scaled out if a pipeline that returns model latents made them (LTX-2, FLUX.2 "
            "Klein)",
            source,
        )
    if not as_diffusion and space == "diffusion":
        _log.warning(
            "%s: without --scaled these are read as model latents, but per channel they have the mean and deviation "
            "of diffusion latents: give --scaled if a pipeline that returns diffusion latents made them (SD, SDXL, "
            "SD3, FLUX.1)",
            source,
        )
