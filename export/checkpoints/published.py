"""Recognises the published model of a VAE in a single file, for its scaling: shapes do not determine the scaling.

The VAEs of SD and SDXL have the same layout, and so do those of SD3 and FLUX.1. The other tensors of the file, its
header or its digest determine the model. If they do not, the user is asked.

Sources of the numbers: the models' configs and diffusers' conversion scripts (SD, SDXL, Playground 2.5, SD3, FLUX.1).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...runtime.config.kl import AutoencoderKLConfig
from .checkpoint import LazyTensor
from .found_checkpoint import MissingFields
from .published_files import model_of_file
from .weights import Weights

__all__ = [
    "LTX2_BY_UPSAMPLING",
    "PublishedModel",
    "missing_scaling",
    "missing_shift",
    "model_of_numbers",
    "published_model",
]


LTX2_BY_UPSAMPLING = {
    ("spatiotemporal",) * 3: "LTX-2.0",
    ("spatiotemporal", "spatiotemporal", "temporal", "spatial"): "LTX-2.3 or 2.5",
}
"""Kinds of the upsamplers, in decoding order -> published model."""

_SD, _SDXL, _PLAYGROUND, _SD3, _FLUX1 = "Stable Diffusion 1.x or 2.x", "SDXL", "Playground 2.5", "SD3", "FLUX.1"
_FLUX2 = "FLUX.2"
_FIELDS: dict[str, dict[str, Any]] = {
    _SD: {"scaling_factor": 0.18215, "sample_size": 512},
    _SDXL: {"scaling_factor": 0.13025, "sample_size": 1024},
    _PLAYGROUND: {"scaling_factor": 0.5, "sample_size": 1024},
    _SD3: {"scaling_factor": 1.5305, "shift_factor": 0.0609, "sample_size": 1024},
    _FLUX1: {"scaling_factor": 0.3611, "shift_factor": 0.1159, "sample_size": 1024},
}
_FOUR_CHANNELS, _SIXTEEN_CHANNELS = (_SD, _SDXL, _PLAYGROUND), (_SD3, _FLUX1)
# Prefixes of `modelspec.architecture` in a safetensors header (github.com/Stability-AI/ModelSpec). The names are those
# that ComfyUI's nodes_model_merging.py and sd-scripts' sai_model_spec.py write.
_ARCHITECTURES = {
    "stable-diffusion-v1": _SD,
    "stable-diffusion-v2": _SD,
    "stable-diffusion-xl": _SDXL,
    "stable-diffusion-v3": _SD3,
    "stable-diffusion-3": _SD3,
    "flux-1": _FLUX1,
}
_UNET, _LABELS = "model.diffusion_model.input_blocks.", "model.diffusion_model.label_emb."
# Columns of `label_emb.0.0.weight` in a UNet -> model. The UNets of SDXL and of SD 2.1 unCLIP have this tensor
# (`adm_in_channels` in ComfyUI's supported_models.py and in the models' configs). In order: unCLIP with ViT-L, unCLIP
# with ViT-H, the SDXL refiner, the SDXL base model, Kolors.
_LABEL_WIDTHS = {1536: _SD, 2048: _SD, 2560: _SDXL, 2816: _SDXL, 5632: _SDXL}


@dataclass(frozen=True)
class PublishedModel:
    """A published model.

    Attributes:
        name: its name.
        fields: config fields that the model determines.
        reason: the evidence for this model, as the end of a sentence.
    """

    name: str
    fields: Mapping[str, Any]
    reason: str

    @property
    def note(self) -> str:
        """The assumption and its reason, as a sentence."""
        if "scaling_factor" not in self.fields:
            return f"taken as {self.name}: {self.reason}"
        numbers = ", ".join(
            f"{key} {self.fields[key]}" for key in ("scaling_factor", "shift_factor") if self.fields.get(key)
        )
        return f"taken as {self.name} ({numbers}, unless given): {self.reason}"


def published_model(
    fields: Mapping[str, Any], others: Mapping[str, LazyTensor], weights: Weights
) -> PublishedModel | None:
    """Find the published model of a VAE.

    Args:
        fields: config fields derived from its shapes.
        others: the other tensors of the file.
        weights: the whole file.

    Returns:
        The model, or None if the file does not determine it.
    """
    if fields["_class_name"] == "AutoencoderKLFlux2":
        return PublishedModel(_FLUX2, {"sample_size": 1024}, "it holds the batch norm of FLUX.2's latents")
    candidates = _same_layout(fields)
    if not candidates:
        return None
    known = _four_channels(others) if candidates == _FOUR_CHANNELS else _sixteen_channels(others)
    known = known or _by_header(weights, candidates) or _by_digest(weights, candidates)
    if known is None:
        return None
    name, reason = known
    statistics = _playgrounds_statistics(others) if name == _PLAYGROUND else {}
    return PublishedModel(name, _FIELDS[name] | statistics, reason)


def model_of_numbers(config: AutoencoderKLConfig) -> str:
    """Return the published model that has the numbers of a config, or ""."""
    models = {4: _FOUR_CHANNELS, 16: _SIXTEEN_CHANNELS}.get(config.latent_channels, ())
    numbers = {(_FIELDS[name]["scaling_factor"], _FIELDS[name].get("shift_factor")): name for name in models}
    return numbers.get((config.scaling_factor, config.shift_factor), "")


def missing_scaling(path: Path, fields: Mapping[str, Any]) -> MissingFields:
    """Return the fields that the user must give for a VAE in a file that does not determine its model."""
    channels = fields["latent_channels"]
    candidates = _same_layout(fields)
    if candidates == _SIXTEEN_CHANNELS:
        return MissingFields(
            ("scaling_factor", "shift_factor"),
            f"{path}: a VAE with 16 latent channels may be {_sixteen_options()}, and nothing in the file shows "
            f"which: pass --scaling-factor and --shift-factor",
        )
    if candidates == _FOUR_CHANNELS:
        known = "may be Stable Diffusion's (0.18215) or SDXL's (0.13025), and nothing in the file shows which"
    else:
        known = "and this structure is that of no published model known here"
    start = f"{path}: a VAE with {channels} latent channels {known}"
    if channels == 16:
        return MissingFields(
            ("scaling_factor", "shift_factor"),
            f"{start}: pass --scaling-factor and --shift-factor (0 for a model that has no shift)",
        )
    return MissingFields(("scaling_factor",), f"{start}: pass --scaling-factor")


def missing_shift(path: Path, fields: Mapping[str, Any]) -> MissingFields | None:
    """Return the fields that the user must give for a diffusers config with 16 latent channels.

    The config may lack a scaling_factor, or have a published model's scaling_factor without its shift_factor. In both
    cases diffusers' class would take its defaults: Stable Diffusion's scaling and no shift.

    Args:
        path: the source, for the message.
        fields: the config in diffusers' JSON form.

    Returns:
        The missing fields, or None if the config is complete or of another kind.
    """
    if fields.get("_class_name") != AutoencoderKLConfig.family or fields.get("shift_factor") is not None:
        return None
    if fields.get("latent_channels") != 16:
        return None
    if fields.get("scaling_factor") is None:
        return MissingFields(
            ("scaling_factor", "shift_factor"),
            f"{path}: the config has no scaling_factor, and a VAE with 16 latent channels may be {_sixteen_options()}: "
            f"pass --scaling-factor and --shift-factor",
        )
    for name in _SIXTEEN_CHANNELS:
        scaling, shift = _FIELDS[name]["scaling_factor"], _FIELDS[name]["shift_factor"]
        if fields.get("scaling_factor") == scaling:
            return MissingFields(
                ("shift_factor",),
                f"{path}: the config has {name}'s scaling_factor {scaling} and no shift_factor ({name} has "
                f"{shift}): pass --shift-factor",
            )
    return None


def _sixteen_options() -> str:
    return " or ".join(
        f"{name}'s (--scaling-factor {_FIELDS[name]['scaling_factor']} --shift-factor {_FIELDS[name]['shift_factor']})"
        for name in _SIXTEEN_CHANNELS
    )


def _same_layout(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the published models whose VAEs have this layout."""
    if len(fields["block_out_channels"]) != 4 or not fields["mid_block_add_attention"]:
        return ()
    convolutions = fields["use_quant_conv"], fields["use_post_quant_conv"]
    if fields["latent_channels"] == 4 and convolutions == (True, True):
        return _FOUR_CHANNELS
    if fields["latent_channels"] == 16 and convolutions == (False, False):
        return _SIXTEEN_CHANNELS
    return ()


def _by_header(weights: Weights, candidates: tuple[str, ...]) -> tuple[str, str] | None:
    architecture = weights.metadata.get("modelspec.architecture")
    if not isinstance(architecture, str):
        return None
    for start, name in _ARCHITECTURES.items():
        if architecture.lower().startswith(start) and name in candidates:
            return name, f"modelspec.architecture in the header begins with {start}"
    return None


def _by_digest(weights: Weights, candidates: tuple[str, ...]) -> tuple[str, str] | None:
    name = model_of_file(weights.path)
    return (name, "it is the published file, by its SHA-256") if name in candidates else None


def _four_channels(others: Mapping[str, LazyTensor]) -> tuple[str, str] | None:
    if {"edm_mean", "edm_std"} <= others.keys():
        return _PLAYGROUND, "the checkpoint holds edm_mean and edm_std"
    labels = others.get(f"{_LABELS}0.0.weight")
    if labels is not None and len(labels.shape) == 2:
        width = labels.shape[1]
        name = _LABEL_WIDTHS.get(width)
        return None if name is None else (name, f"the checkpoint holds {_LABELS}* of width {width}")
    held = {
        part: any(name.startswith(part) for name in others)
        for part in ("conditioner.embedders.", "cond_stage_model.", _LABELS, _UNET)
    }
    if held["conditioner.embedders."]:
        # Stability's code uses this name for the text encoder of SD 2.1 too. The UNet of SD 2.1 has no labels.
        sdxl = held[_LABELS] or not held[_UNET]
        return (_SDXL, "the checkpoint holds conditioner.embedders.*") if sdxl else None
    for part, name in (("cond_stage_model.", _SD), (_LABELS, _SDXL), (_UNET, _SD)):
        if held[part]:
            return name, f"the checkpoint holds {part}*"
    return None


def _playgrounds_statistics(others: Mapping[str, LazyTensor]) -> dict[str, Any]:
    return {
        f"latents_{part}": [float(value) for value in others[f"edm_{part}"].read().reshape(-1)]
        for part in ("mean", "std")
    }


def _sixteen_channels(others: Mapping[str, LazyTensor]) -> tuple[str, str] | None:
    found = [
        (name, f"the checkpoint holds {part}*")
        for part, name in (("joint_blocks.", _SD3), ("double_blocks.", _FLUX1))
        if any(part in other for other in others)
    ]
    return found[0] if len(found) == 1 else None
