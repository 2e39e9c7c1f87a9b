"""Model latents in the form that another program or a pipeline takes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...tiling.argument_names import argument
from ..arrays.latent_form import LatentForm, Layout, from_model_latents
from ..autoencoders.autoencoder import Autoencoder
from ..errors import InputError
from ..media.named_origin import DIFFUSERS, MODEL, NamedOrigin, main_pipelines, named_origin
from .given_latents import GivenOrigin

__all__ = ["formed_latents", "origin_to_write"]


def origin_to_write(vae: Autoencoder, name: str | None, *, scaled: bool) -> NamedOrigin:
    """The origin whose form latents get.

    Args:
        vae: the encoding model.
        name: see `encode_file`.
        scaled: see `encode_file`.

    Raises:
        InputError: the name is unknown or of another family, or stands for pipelines that differ.
    """
    found = named_origin(GivenOrigin(name, scaled).origin or MODEL, vae.config)
    if found.form.layout is not None:
        return found
    if name == DIFFUSERS:
        names = " or ".join(main_pipelines(vae.config))
        raise InputError(
            f"{argument('origin', name)}: the pipelines of {vae.family} take different latents: give the class of the "
            f"pipeline, {names}"
        )
    return NamedOrigin(found.name, found.family, LatentForm(found.form.space, Layout.CELLS))


def formed_latents(
    vae: Autoencoder, latents: NDArray[np.float32], source: Path, origin: NamedOrigin
) -> NDArray[np.float32]:
    """Model latents in the form of an origin.

    Args:
        vae: the encoding model.
        latents: model latents, float32 (B, C, h, w) or (B, C, t, h, w).
        source: the picture or clip, for messages.
        origin: where the latents will go. Its layout is not None.

    Raises:
        InputError: the form packs cells, and the latents have an odd height or width.
    """
    assert origin.form.layout is not None
    try:
        return from_model_latents(latents, vae.config, origin.form.space, origin.form.layout)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
