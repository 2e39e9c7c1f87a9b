"""Where latents come from: the names of programs and pipelines, and the form of the latents that each gives."""

from dataclasses import dataclass
from difflib import get_close_matches

from ...tiling.argument_names import argument
from ...tiling.plain_text import shown
from ..arrays.latent_form import LatentForm, Layout
from ..config.families import FAMILIES, config_class
from ..config.model_config import ModelConfig
from ..errors import InputError
from . import pipeline_classes as classes

__all__ = [
    "COMFYUI",
    "DIFFUSERS",
    "DIFFUSION",
    "MODEL",
    "NamedOrigin",
    "check_name",
    "main_pipelines",
    "named_origin",
    "origin_names",
    "origins_of",
    "stated_forms",
]

MODEL, DIFFUSION, COMFYUI, DIFFUSERS = "model", "diffusion", "comfyui", "diffusers"

_KL, _FLUX2, _LTX2 = "AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderKLLTX2Video"
_CELLS = LatentForm("diffusion", Layout.CELLS)
_TOKENS = LatentForm("diffusion", Layout.TOKENS)
_AS_MODEL = LatentForm("model", Layout.CELLS)
_PIPELINES: tuple[tuple[str, LatentForm, tuple[str, ...]], ...] = (
    (_KL, _CELLS, classes.KL_CELLS),
    (_KL, _TOKENS, classes.KL_TOKENS),
    (_FLUX2, _TOKENS, classes.FLUX2_TOKENS),
    (_FLUX2, _AS_MODEL, classes.FLUX2_KLEIN),
    (_FLUX2, LatentForm("diffusion", Layout.CHANNELS_LAST), classes.FLUX2_TOKENS_CHANNELS_LAST),
    (_FLUX2, LatentForm("diffusion", Layout.SPREAD), classes.FLUX2_SPREAD),
    (_LTX2, _AS_MODEL, classes.LTX2_MODEL),
    (_LTX2, _CELLS, classes.LTX2_DIFFUSION),
)
# Names that users have for the families of pipelines, and the first letters of the classes.
_SHORT_NAMES = {
    "sdxl": "stablediffusionxl",
    "sd3": "stablediffusion3",
    "sd": "stablediffusion",
    "flux1": "flux",
    "klein": "flux2klein",
    "ltxvideo": "ltx2",
    "ltx2": "ltx2",
    "ltx": "ltx2",
}


@dataclass(frozen=True)
class NamedOrigin:
    """A program or a pipeline that latents come from, for one family of models.

    Attributes:
        name: `model` for the encoder, `diffusion` for the denoiser, `comfyui`, or a pipeline class of diffusers.
        family: the family of the VAE.
        form: the form of the latents. Its layout is None if the shape decides it.
    """

    name: str
    family: str
    form: LatentForm


def origin_names() -> tuple[str, ...]:
    """Every name that the user may give, `diffusers` among them."""
    pipelines = (name for _, _, names in _PIPELINES for name in names)
    return (MODEL, DIFFUSION, COMFYUI, DIFFUSERS, *pipelines)


def origins_of(family: str) -> tuple[NamedOrigin, ...]:
    """Every origin of a family's latents: the general ones, and the pipeline classes."""
    in_comfyui = _CELLS if config_class(family).scaled_in_comfyui else _AS_MODEL
    general = ((MODEL, _AS_MODEL), (DIFFUSION, LatentForm("diffusion")), (COMFYUI, in_comfyui))
    pipelines = ((name, form) for of, form, names in _PIPELINES for name in names if of == family)
    return tuple(NamedOrigin(name, family, form) for name, form in (*general, *pipelines))


def named_origin(name: str, config: ModelConfig) -> NamedOrigin:
    """The origin of a name, for a model.

    `diffusers` stands for the main pipelines of the family. If they give one form, it is that form. If they differ in
    the layout alone, the shape of an array decides between them, and the layout is None.

    Args:
        name: see `origin_names`.
        config: the model's config.

    Raises:
        InputError: the name is unknown or belongs to another family, or the main pipelines of the family differ.
    """
    check_name(name)
    found = {one.name: one for one in origins_of(config.family)}
    if name in found:
        return found[name]
    main = main_pipelines(config)
    if name != DIFFUSERS or not main:
        raise InputError(
            f"{argument('origin', name)}: this pipeline gives latents of another family, and the bundle is "
            f"{config.family}: give {MODEL}, {DIFFUSION}, {COMFYUI} or a pipeline of the family"
            f"{', such as ' if main else ''}{', '.join(main)}"
        )
    forms = {found[one].form for one in main}
    spaces = {form.space for form in forms}
    if len(spaces) > 1:
        raise InputError(
            f"{argument('origin', name)}: the pipelines of {config.family} give different latents: give the class of "
            f"the pipeline, {' or '.join(main)}"
        )
    if len(main) == 1:
        return found[main[0]]
    layouts = {form.layout for form in forms}
    return NamedOrigin(DIFFUSION, config.family, LatentForm(spaces.pop(), layouts.pop() if len(layouts) == 1 else None))


def main_pipelines(config: ModelConfig) -> tuple[str, ...]:
    """The names of the main pipelines for a model: those of its number of latent channels, or else of its family."""
    of_family = {one.name for one in origins_of(config.family)}
    main = {name: channels for name, channels in classes.MAIN_CLASSES.items() if name in of_family}
    return tuple(name for name, channels in main.items() if channels in (None, config.latent_channels)) or tuple(main)


def stated_forms(name: str, family: str | None) -> tuple[LatentForm, ...]:
    """The forms that latents of a name can have. A name that this version does not know has none.

    Args:
        name: see `origin_names`.
        family: the family of the model. None for any.
    """
    families = [family] if family is not None and family in FAMILIES else list(FAMILIES)
    found = [one for of in families for one in origins_of(of)]
    if name == DIFFUSERS:
        return tuple({one.form for one in found if one.name in classes.MAIN_CLASSES})
    return tuple({one.form for one in found if one.name == name})


def check_name(name: str) -> None:
    """Refuse a name that no origin has.

    Raises:
        InputError: see above. The message names origins with similar names.
    """
    names = origin_names()
    if name in names:
        return
    known = (MODEL, DIFFUSION, COMFYUI, DIFFUSERS)
    similar = _similar(name[:60])
    raise InputError(
        f"{argument('origin')}: {shown(name)} is unknown: give {', '.join(known)} or the class of a diffusers pipeline"
        f"{', such as ' if similar else ''}{', '.join(similar)}"
    )


def _similar(name: str) -> list[str]:
    """Up to three pipeline classes with a similar name, the main classes first."""
    pipelines = [*classes.MAIN_CLASSES, *(one for one in origin_names()[4:] if one not in classes.MAIN_CLASSES)]
    wanted = name.lower().replace("-", "").replace("_", "").replace(".", "")
    for short, long in _SHORT_NAMES.items():
        if wanted.startswith(short):
            wanted = long + wanted.removeprefix(short)
            break
    held = [one for one in pipelines if wanted and one.lower().startswith(wanted)]
    return held[:3] or get_close_matches(name, pipelines, n=3, cutoff=0.5)
