"""Which published image model a VAE in a single file is of: its scaling cannot be read from its shapes.

Sources of the numbers: the models' configs and diffusers' conversion scripts (SD, SDXL, Playground 2.5, SD3, FLUX.1).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...runtime.config import AutoencoderKLConfig, AutoencoderKLFlux2Config, ModelConfig
from .candidate import Missing
from .checkpoint import LazyTensor

__all__ = ["LTX2_BY_UPSAMPLING", "PublishedModel", "missing_scaling", "name_of", "published_model"]


LTX2_BY_UPSAMPLING = {
    ("spatiotemporal",) * 3: "LTX-2.0",
    ("spatiotemporal", "spatiotemporal", "temporal", "spatial"): "LTX-2.3 or 2.5",
}
_SD, _SDXL, _PLAYGROUND, _SD3, _FLUX1 = "Stable Diffusion 1.x or 2.x", "SDXL", "Playground 2.5", "SD3", "FLUX.1"
_FLUX2 = "FLUX.2"
_BY_NUMBERS: dict[tuple[int, float, float | None], str] = {
    (4, 0.18215, None): _SD,
    (4, 0.13025, None): _SDXL,
    (4, 0.5, None): _PLAYGROUND,
    (16, 1.5305, 0.0609): _SD3,
    (16, 0.3611, 0.1159): _FLUX1,
}


@dataclass(frozen=True)
class PublishedModel:
    """A model's name, the config fields that it brings, and a sentence about what was assumed and why."""

    name: str
    fields: Mapping[str, Any]
    reason: str

    @property
    def note(self) -> str:
        if "scaling_factor" not in self.fields:
            return f"taken for {self.name}: {self.reason}"
        numbers = ", ".join(
            f"{key} {self.fields[key]}" for key in ("scaling_factor", "shift_factor") if self.fields.get(key)
        )
        return f"taken for {self.name} ({numbers}, unless given): {self.reason}"


def published_model(fields: Mapping[str, Any], prefix: str, others: Mapping[str, LazyTensor]) -> PublishedModel | None:
    """The model that a VAE belongs to, or None where nothing tells.

    `fields`: what its shapes tell; `prefix`: what stands before its names; `others`: the file's other tensors.
    """
    if fields["_class_name"] == "AutoencoderKLFlux2":
        return PublishedModel(_FLUX2, {"sample_size": 1024}, "it holds the batch norm of FLUX.2's latents")
    if len(fields["block_out_channels"]) != 4 or not fields["mid_block_add_attention"]:
        return None
    quantised = fields["use_quant_conv"] and fields["use_post_quant_conv"]
    if fields["latent_channels"] == 4 and quantised:
        return _four_channels(others)
    if fields["latent_channels"] == 16 and not fields["use_quant_conv"] and not fields["use_post_quant_conv"]:
        return _sixteen_channels(prefix, others)
    return None


def name_of(config: ModelConfig) -> str:
    """The published model that a config of diffusers is of by its numbers, or ""."""
    if isinstance(config, AutoencoderKLFlux2Config):
        return _FLUX2
    if isinstance(config, AutoencoderKLConfig):
        return _BY_NUMBERS.get((config.latent_channels, config.scaling_factor or 0.0, config.shift_factor), "")
    return LTX2_BY_UPSAMPLING.get(config.upsample_type, "")


def missing_scaling(path: Path, fields: Mapping[str, Any]) -> Missing:
    """What the user has to say where nothing tells which model it is."""
    channels = fields["latent_channels"]
    if channels == 16:
        return Missing(
            ("scaling_factor", "shift_factor"),
            f"{path}: a VAE with 16 latent channels may be SD3's (1.5305 and 0.0609) or FLUX.1's (0.3611 and 0.1159) "
            f"and nothing in the file tells which: pass --scaling-factor and --shift-factor",
        )
    known = (
        "may be Stable Diffusion's (0.18215) or SDXL's (0.13025) and nothing in the file tells which"
        if channels == 4
        else "of this structure is of no published model that is known here"
    )
    return Missing(("scaling_factor",), f"{path}: a VAE with {channels} latent channels {known}: pass --scaling-factor")


def _four_channels(others: Mapping[str, LazyTensor]) -> PublishedModel | None:
    if {"edm_mean", "edm_std"} <= others.keys():
        statistics = {
            f"latents_{part}": [float(value) for value in others[f"edm_{part}"].read().reshape(-1)]
            for part in ("mean", "std")
        }
        fields = {"scaling_factor": 0.5, "sample_size": 1024, **statistics}
        return PublishedModel(_PLAYGROUND, fields, "the checkpoint holds edm_mean and edm_std")
    for part, is_sdxl in (
        ("conditioner.embedders.", True),
        ("cond_stage_model.", False),
        ("model.diffusion_model.label_emb.", True),
        ("model.diffusion_model.input_blocks.", False),
    ):
        if any(name.startswith(part) for name in others):
            reason = f"the checkpoint holds {part}*"
            if is_sdxl:
                return PublishedModel(_SDXL, {"scaling_factor": 0.13025, "sample_size": 1024}, reason)
            return PublishedModel(_SD, {"scaling_factor": 0.18215, "sample_size": 512}, reason)
    return None


def _sixteen_channels(prefix: str, others: Mapping[str, LazyTensor]) -> PublishedModel | None:
    flux = {"scaling_factor": 0.3611, "shift_factor": 0.1159, "sample_size": 1024}
    sd3 = {"scaling_factor": 1.5305, "shift_factor": 0.0609, "sample_size": 1024}
    shapes = "16 latent channels without quant convolutions"
    if any("joint_blocks." in name for name in others):
        return PublishedModel(_SD3, sd3, "the checkpoint holds joint_blocks.*")
    if any("double_blocks." in name for name in others):
        return PublishedModel(_FLUX1, flux, "the checkpoint holds double_blocks.*")
    if not prefix and not others:
        reason = f"{shapes}, under bare names; SD3's would be --scaling-factor 1.5305 --shift-factor 0.0609"
        return PublishedModel(_FLUX1, flux, reason)
    if prefix == "first_stage_model." and others:
        reason = f"{shapes}, under {prefix} inside a full checkpoint"
        return PublishedModel(_SD3, sd3, reason)
    return None
