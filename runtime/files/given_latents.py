"""Conversion of the latents in a file to model latents, with checks against the bundle."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...tiling.argument_names import argument
from ...tiling.plain_text import shown, visible
from ..arrays.latent_form import LatentForm, Layout, to_model_latents
from ..arrays.latent_space import likely_space
from ..arrays.packed_latents import is_packed
from ..autoencoders.autoencoder import Autoencoder
from ..config.model_config import ModelConfig
from ..errors import InputError
from ..media.latents_file import LatentsFile
from ..media.named_origin import COMFYUI, DIFFUSION, MODEL, named_origin, origin_names
from ..media.notes import note

__all__ = ["GivenOrigin", "check_given_origin", "model_latents"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GivenOrigin:
    """What the user says about the latents in a file.

    Attributes:
        name: where they come from (see `named_origin`). None: the file says it, or else they are model latents.
        scaled: whether the user gave `scaled`, the other spelling of the name "diffusion".
        size: the height and width in pixels of the picture that tokens are of. None takes the size in the file.
    """

    name: str | None = None
    scaled: bool = False
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.scaled and self.name not in (None, DIFFUSION):
            raise InputError(
                f"{argument('scaled')} means {argument('origin', DIFFUSION)}, and {argument('origin', self.name)} is "
                f"given too: leave one of them out"
            )

    @property
    def origin(self) -> str | None:
        """The name of the origin, or None if the user gave none."""
        return DIFFUSION if self.scaled else self.name

    @property
    def text(self) -> str:
        """The argument that the user gave, for messages."""
        return argument("scaled") if self.scaled else argument("origin", self.name)


def check_given_origin(vae: Autoencoder, given: GivenOrigin) -> None:
    """Refuse an origin that the model's family does not have, before any file is read.

    Raises:
        InputError: see above.
    """
    if given.origin is not None:
        named_origin(given.origin, vae.config)


def model_latents(
    vae: Autoencoder, content: LatentsFile, source: Path, given: GivenOrigin | None = None
) -> NDArray[np.float32]:
    """The model latents in a file, as the decoder takes them.

    One line of the log says how latents are read if neither the user nor the file names their origin. It is a warning
    about the other space if their statistics are those of the other space. The latents are converted as requested
    anyway. Files whose metadata names the origin are not checked.

    Args:
        vae: the decoding model.
        content: the content of the file. Its latents may lack the axis of the batch.
        source: the file, for messages.
        given: what the user says about the latents. Without it, the metadata decides. Without metadata, tokens are
            those of a FLUX pipeline, and other latents are model latents.

    Returns:
        float32 (B, C, h, w) or (B, C, t, h, w).

    Raises:
        InputError: the latents have another family, rank or number of channels than the model, the size of tokens is
            missing or wrong, or the metadata contradicts the user.
    """
    config, latents, given = vae.config, np.asarray(content.latents, np.float32), given or GivenOrigin()
    if content.family is not None and content.family != vae.family:
        raise InputError(
            f"{source} holds latents of {content.family[:80]!r} and the bundle is {vae.family}: give "
            "latents and a bundle of the same family"
        )
    size = given.size or _stated_size(vae, content, latents)
    form = _form(config, content, source, given)
    layout = form.layout if form is not None else None
    if layout is None:
        layout = Layout.TOKENS if is_packed(latents, config, *(size or (None, None))) else Layout.CELLS
    space = form.space if form is not None else "diffusion" if layout.has_tokens else "model"
    if not layout.has_tokens and given.size is not None:
        raise InputError(f"{source} holds no packed latents of a FLUX pipeline: leave {argument('size')} out")
    latents = _checked_shape(vae, latents, source, layout, given)
    if layout is Layout.CELLS:
        if config.packing is not None:
            _check_packing(config, latents, source, space == "diffusion", given)
        if content.origin is None:
            _say_space(config, latents, source, given, space)
    elif form is None:
        _say_default(source, f"tokens of {'Flux2Pipeline' if config.packing else 'FluxPipeline'}")
    try:
        return to_model_latents(latents, config, space, layout, size)
    except InputError as error:
        pieces = (one if isinstance(one, str) else argument(one[0]) for one in error.pieces)
        raise InputError(f"{source} holds {''.join(pieces)}") from error


def _form(config: ModelConfig, content: LatentsFile, source: Path, given: GivenOrigin) -> LatentForm | None:
    """The form of the latents, as the user and the file name it. None if neither does.

    Raises:
        InputError: a name is unknown or of another family, or the two contradict each other.
    """
    of_user = None if given.origin is None else named_origin(given.origin, config).form
    stated = content.origin
    if stated is None or (stated not in origin_names() and of_user is not None):
        return of_user
    if stated not in origin_names():
        raise InputError(
            f"{source} says that its latents come from {shown(stated)}, which this version does not know: give "
            f"{argument('origin')} with a name that it knows, or update latentrt"
        )
    of_file = named_origin(stated, config).form
    if of_user is None:
        return of_file
    if of_user.space != of_file.space:
        writer = "was written by ComfyUI, so it" if stated == COMFYUI else "says that it"
        found, wanted = (f"{space} latents" for space in (of_file.space, of_user.space))
        raise InputError(f"{source} {writer} holds {found}, not {wanted}: leave {given.text} out")
    if not of_user.fits(of_file):
        raise InputError(f"{source} says that its latents come from {stated}: leave {given.text} out")
    return of_user if of_user.layout is not None else of_file


def _stated_size(vae: Autoencoder, content: LatentsFile, latents: NDArray[Any]) -> tuple[int, int] | None:
    """The height and width in the file. A size that was padded before it was encoded becomes the padded size."""
    if content.height is None or content.width is None:
        return None
    size, side = (content.height, content.width), 2 * vae.config.spatial_ratio
    if latents.ndim == 3 and (size[0] // side) * (size[1] // side) != latents.shape[1] and not vae.video:
        height, width = (-(-length // side) * side for length in size)
        if (height // side) * (width // side) == latents.shape[1]:
            return height, width
    return size


def _checked_shape(
    vae: Autoencoder, latents: NDArray[np.float32], source: Path, layout: Layout, given: GivenOrigin
) -> NDArray[np.float32]:
    """The latents with the axis of the batch.

    Raises:
        InputError: the rank or the number of channels is not that of the layout.
    """
    config = vae.config
    rank = 3 if layout.has_tokens else 5 if vae.video else 4
    channels = (
        [config.latent_channels] if layout is Layout.SPREAD else [config.latent_channels, config.diffusion_channels]
    )
    if layout.has_tokens:
        channels = [4 * config.latent_channels]
    axis = 2 if layout.has_tokens else 1
    if latents.ndim == rank - 1 and latents.shape[axis - 1] in channels:
        latents = latents[np.newaxis]
    if latents.ndim != rank:
        raise InputError(f"{source} holds latents of shape {latents.shape}, which {_taker(vae, layout, given)}")
    if layout is not Layout.CELLS and latents.shape[axis] not in channels:
        raise InputError(f"{source} holds latents of shape {latents.shape}, which {_taker(vae, layout, given)}")
    return latents


def _taker(vae: Autoencoder, layout: Layout, given: GivenOrigin) -> str:
    if layout is Layout.CELLS or given.name is None:
        return f"{vae.family} does not take"
    return f"{given.name} does not give ({layout.value}): give {argument('origin', DIFFUSION)} for another shape"


def _check_packing(
    config: ModelConfig, latents: NDArray[Any], source: Path, as_diffusion: bool, given: GivenOrigin
) -> None:
    """Check the space of packed latents by their channels, which differ between the two spaces."""
    channels = latents.shape[1]
    if not as_diffusion and channels == config.diffusion_channels:
        raise InputError(
            f"{source} holds {channels} channels, which are diffusion latents of {config.family} (its model latents "
            f"have {config.latent_channels}): give {argument('origin', DIFFUSION)}"
        )
    if as_diffusion and channels == config.latent_channels:
        remedy = f"leave {given.text} out" if given.origin else f"give {argument('origin', MODEL)}"
        raise InputError(
            f"{source} holds {channels} channels, which are model latents of {config.family} (its diffusion latents "
            f"have {config.diffusion_channels}): {remedy}"
        )


def _say_space(config: ModelConfig, latents: NDArray[Any], source: Path, given: GivenOrigin, space: str) -> None:
    """Log how latents are read that do not say their origin: the default, and a doubt about their space."""
    likely = likely_space(latents, config)
    if likely is None or likely == space:
        if given.origin is None:
            _say_default(source, "model latents")
    elif space == "diffusion":
        spelling = "--scaled" if given.scaled else f"--from {given.origin}"
        _log.warning(
            "%s: %s says that these are diffusion latents, but per channel they have the mean and deviation of model "
            "latents: leave %s out if a pipeline that returns model latents made them (LTX-2, FLUX.2 Klein)",
            visible(str(source)),
            spelling,
            spelling,
        )
    elif given.origin is None:
        _log.warning(
            "%s does not say where its latents come from: they are read as model latents, but per channel they have "
            "the mean and deviation of diffusion latents: give --from diffusion if a pipeline that returns diffusion "
            "latents made them (SD, SDXL, SD3, FLUX.1)",
            visible(str(source)),
        )
    else:
        _log.warning(
            "%s: --from %s says that these are model latents, but per channel they have the mean and deviation of "
            "diffusion latents: give --from diffusion if a pipeline that returns diffusion latents made them",
            visible(str(source)),
            given.origin,
        )


def _say_default(source: Path, kind: str) -> None:
    note(
        source,
        "origin",
        f"does not say where its latents come from: they are read as {kind}, which is the default (--from names "
        f"another origin)",
    )
