"""The video VAE of LTX-2 in its original files: alone, or inside the combined model beside transformer and audio VAE.

Source of names and description: Lightricks LTX-2 (`config.vae` in the safetensors metadata).
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from ...runtime.errors import CheckpointError
from ...runtime.system.json_file import json_value
from ...tiling.plain_text import shown
from .candidate import Candidate
from .checkpoint import LazyTensor
from .listing import listed
from .ltx2_layout import Ltx2Layout
from .ltx2_shapes import ltx2_description
from .published import LTX2_BY_UPSAMPLING
from .weights import Weights

__all__ = ["open_ltx2_original", "refuse_diffusion_decoder"]

_CONVOLUTIONAL, _DIFFUSION = "CausalVideoAutoencoder", "CausalDiffusionVAE"
_STATISTICS = {"mean-of-means": "latents_mean", "std-of-means": "latents_std"}
_STATISTICS_NAME = re.compile(r"(?:encoder\.|decoder\.)?per_channel_statistics\.(.+)")
_DIFFUSION_DECODER = ("decoder.det_stages.", "decoder.diff_stages.", "decoder.upsamples.", "decoder.t_embedder.")
# What only a description in the header says, told by the published model: (residual upsampling, decoder padding).
_BY_MODEL = {"LTX-2.0": (True, "reflect"), "LTX-2.3 or 2.5": (False, "zeros")}
_LTX_VIDEO_TRANSFORMER = "Transformer3DModel"  # LTX-2's is AVTransformer3DModel
# In the decoders of LTX-Video 0.9.1 and later; no LTX-2 has them.
_LTX_VIDEO_TENSOR = re.compile(r"decoder\.(?:timestep_scale_multiplier|.+\.per_channel_scale[12])")
_QUESTION = "is the file whole, and the description in its header that of these weights?"


def open_ltx2_original(weights: Weights, prefix: str) -> Candidate:
    """The video VAE whose names start with `prefix`.

    Raises:
        CheckpointError: it is LTX-2.5's diffusion decoder, is incomplete, or has contradictory statistics.
    """
    own = {name.removeprefix(prefix): tensor for name, tensor in weights.tensors.items() if name.startswith(prefix)}
    described, transformer = _descriptions(weights)
    class_name = (described or {}).get("_class_name", _CONVOLUTIONAL)
    refuse_diffusion_decoder(weights, own, class_name)
    if class_name != _CONVOLUTIONAL:
        raise CheckpointError(f"{weights.path} holds a {shown(class_name)}, and of LTX-2 {_CONVOLUTIONAL} is supported")
    if any(".downsamplers." in name or ".resnets." in name for name in own):
        raise CheckpointError(
            f"{weights.path} has diffusers' names but no config: give the folder that it came in, with its config.json"
        )
    notes: tuple[str, ...] = ()
    if described is None:
        layout, note = _from_shapes(weights, own)
        notes = (note,)
    else:
        _refuse_ltx_video(weights, described, transformer)
        layout = Ltx2Layout(described, weights.path)
    tensors = _statistics(weights, prefix)
    for name, tensor in own.items():
        if _STATISTICS_NAME.fullmatch(name):
            continue
        renamed = layout.diffusers_name(name)
        if renamed in tensors:
            raise CheckpointError(
                f"{weights.path} holds {listed([renamed])} twice, by two names: it is damaged; fetch it again"
            )
        tensors[renamed] = tensor
    first = own.get("decoder.conv_in.conv.weight")
    if first is None or len(first.shape) != 5:
        raise CheckpointError(f"{weights.path}: its video VAE has no decoder (decoder.conv_in is missing or damaged)")
    conditioned = "decoder.timestep_scale_multiplier" in own
    return Candidate(
        weights.path,
        layout.fields(first.shape[0], timestep_conditioning=conditioned),
        tensors,
        format=_format(weights, prefix, described is not None),
        variant=_variant(weights, layout),
        notes=notes,
        question=_QUESTION,
    )


def _descriptions(weights: Weights) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """`config.vae` of the file's header, or None, and `config.transformer`, or an empty one."""
    text = weights.metadata.get("config")
    if not isinstance(text, str):
        return None, {}
    try:
        config = json_value(text)
    except ValueError as error:
        raise CheckpointError(
            f"{weights.path}: the config in its header is not JSON: it is damaged ({error})"
        ) from error
    parts = config if isinstance(config, dict) else {}
    described, transformer = parts.get("vae"), parts.get("transformer")
    return (
        described if isinstance(described, dict) else None,
        transformer if isinstance(transformer, dict) else {},
    )


def _refuse_ltx_video(weights: Weights, described: Mapping[str, Any], transformer: Mapping[str, Any]) -> None:
    """Refuse a description of LTX-Video (0.9.x) that leaves the decoder's padding to a default: LTX-Video's is zeros,
    LTX-2's reflects.

    Raises:
        CheckpointError: it is that.
    """
    padded = {"spatial_padding_mode", "decoder_spatial_padding_mode"} & described.keys()
    if transformer.get("_class_name") == _LTX_VIDEO_TRANSFORMER and not padded:
        raise CheckpointError(
            f"{weights.path} holds the VAE of LTX-Video ({_LTX_VIDEO_TRANSFORMER} in its header), which is not "
            f"supported: give an LTX-2 checkpoint"
        )


def refuse_diffusion_decoder(weights: Weights, names: Collection[str], class_name: object = None) -> None:
    """Refuse LTX-2.5's other decoder, which its description or its tensors' names tell.

    Raises:
        CheckpointError: it is that.
    """
    if class_name == _DIFFUSION or any(name.startswith(_DIFFUSION_DECODER) for name in names):
        raise CheckpointError(
            f"{weights.path} holds LTX-2.5's diffusion decoder ({_DIFFUSION}), which is not supported: take the file "
            f"of the convolutional VAE (ltx-2.5-video-vae-conv-*.safetensors)"
        )


def _from_shapes(weights: Weights, own: Mapping[str, LazyTensor]) -> tuple[Ltx2Layout, str]:
    foreign = [name for name in own if _LTX_VIDEO_TENSOR.fullmatch(name)]
    if foreign:  # LTX-Video 0.9.5 has the layout of LTX-2.0, and pads with zeros where that reflects
        raise CheckpointError(
            f"{weights.path} has no description of its VAE in its header, and {listed(foreign)}, which LTX-Video has "
            f"and no published LTX-2: take the original file, whose header has the description"
        )
    try:
        described = ltx2_description({name: tensor.shape for name, tensor in own.items()})
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"{weights.path} has no description of its VAE in its header, and its tensors are not those of LTX-2 "
            f"({error}): fetch the original file again"
        ) from error
    layout = Ltx2Layout(described, weights.path)
    variant = LTX2_BY_UPSAMPLING.get(layout.upsampling)
    if variant is None:
        raise CheckpointError(
            f"{weights.path} has no description of its VAE in its header, and its upsamplers "
            f"({', '.join(layout.upsampling)}) are of no published model: take the original file, whose header has it"
        )
    residual, padding = _BY_MODEL[variant]
    for kind, options in described["decoder_blocks"]:
        if kind != "res_x":
            options["residual"] = residual
    described |= {"encoder_spatial_padding_mode": "zeros", "decoder_spatial_padding_mode": padding}
    assumed = f"{padding} padding, {'residual' if residual else 'plain'} upsampling, a decoder that is not causal"
    note = f"its header has no description; taken for {variant} by its upsamplers, hence {assumed}"
    return Ltx2Layout(described, weights.path), note


def _statistics(weights: Weights, prefix: str) -> dict[str, LazyTensor]:
    """The latents' means and deviations, inside or outside the prefix; where they are several times, all alike."""
    found: dict[str, LazyTensor] = {}
    for name, tensor in weights.tensors.items():
        match = _STATISTICS_NAME.fullmatch(name.removeprefix(prefix))
        renamed = _STATISTICS.get(match[1]) if match else None
        if renamed is None:
            continue
        if renamed in found and not np.array_equal(found[renamed].read(), tensor.read()):
            raise CheckpointError(
                f"{weights.path} holds {listed([name])} more than once, with different values: fetch it again"
            )
        found.setdefault(renamed, tensor)
    return found


def _variant(weights: Weights, layout: Ltx2Layout) -> str:
    version = weights.metadata.get("model_version")
    if isinstance(version, str) and re.fullmatch(r"\d[\w.]{0,20}", version):
        return f"LTX-{version}"
    return LTX2_BY_UPSAMPLING.get(layout.upsampling, "LTX-2")


def _format(weights: Weights, prefix: str, described: bool) -> str:
    others = any(not name.startswith(prefix) and not _STATISTICS_NAME.fullmatch(name) for name in weights.tensors)
    config = "from its header" if described else "from its shapes"
    return f"LTX-2 original file ({'inside a combined checkpoint, ' if others else ''}config {config})"
