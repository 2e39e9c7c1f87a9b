"""The video VAE of LTX-2 in its original files: alone, or in the combined model with transformer and audio VAE.

Source of names and description: Lightricks LTX-2 (`config.vae` in the safetensors metadata).
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from ...runtime.errors import CheckpointError
from ...runtime.system.json_file import json_value
from ...tiling.plain_text import shown
from .checkpoint import LazyTensor
from .found_checkpoint import FoundCheckpoint
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
# Properties that only a description in the header states, by published model: (residual upsampling, decoder padding).
_BY_MODEL = {"LTX-2.0": (True, "reflect"), "LTX-2.3 or 2.5": (False, "zeros")}
_LTX_VIDEO_TRANSFORMER = "Transformer3DModel"  # LTX-2's is AVTransformer3DModel
# Tensors of the decoders of LTX-Video 0.9.1 and later; no LTX-2 has them.
_LTX_VIDEO_TENSOR = re.compile(r"decoder\.(?:timestep_scale_multiplier|.+\.per_channel_scale[12])")
_QUESTION = "is the file whole, and does the description in its header belong to these weights?"


def open_ltx2_original(weights: Weights, prefix: str) -> FoundCheckpoint:
    """Open the video VAE whose tensor names start with `prefix`.

    Raises:
        CheckpointError: the file holds LTX-2.5's diffusion decoder, or the VAE is incomplete or has contradictory
            statistics.
    """
    own = {name.removeprefix(prefix): tensor for name, tensor in weights.tensors.items() if name.startswith(prefix)}
    described, transformer = _descriptions(weights)
    class_name = (described or {}).get("_class_name", _CONVOLUTIONAL)
    refuse_diffusion_decoder(weights, own, class_name)
    if class_name != _CONVOLUTIONAL:
        raise CheckpointError(f"{weights.path} holds a {shown(class_name)}; of LTX-2, {_CONVOLUTIONAL} is supported")
    if any(".downsamplers." in name or ".resnets." in name for name in own):
        raise CheckpointError(
            f"{weights.path} has diffusers' names but no config: give the folder that holds it and its config.json"
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
    return FoundCheckpoint(
        weights.path,
        layout.fields(first.shape[0], timestep_conditioning=conditioned),
        tensors,
        format=_format(weights, prefix, described is not None),
        variant=_variant(weights, layout),
        notes=notes,
        question=_QUESTION,
        files=weights.files,
    )


def _descriptions(weights: Weights) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return `config.vae` of the file's header, or None, and `config.transformer`, or an empty dict."""
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
    """Refuse a description of LTX-Video (0.9.x) that leaves the padding of the decoder to a default.

    LTX-Video pads with zeros by default, LTX-2 by reflection.

    Raises:
        CheckpointError: the description is of that kind.
    """
    padded = {"spatial_padding_mode", "decoder_spatial_padding_mode"} & described.keys()
    if transformer.get("_class_name") == _LTX_VIDEO_TRANSFORMER and not padded:
        raise CheckpointError(
            f"{weights.path} holds the VAE of LTX-Video ({_LTX_VIDEO_TRANSFORMER} in its header), which is not "
            f"supported: give an LTX-2 checkpoint"
        )


def refuse_diffusion_decoder(weights: Weights, names: Collection[str], class_name: object = None) -> None:
    """Refuse LTX-2.5's diffusion decoder, recognised by its description or by the names of its tensors.

    Args:
        weights: the file.
        names: names of the tensors, without the prefix of the VAE.
        class_name: `_class_name` of the description.

    Raises:
        CheckpointError: the file holds the diffusion decoder.
    """
    if class_name == _DIFFUSION or any(name.startswith(_DIFFUSION_DECODER) for name in names):
        raise CheckpointError(
            f"{weights.path} holds LTX-2.5's diffusion decoder ({_DIFFUSION}), which is not supported: take the file "
            f"of the convolutional VAE (ltx-2.5-video-vae-conv-*.safetensors)"
        )


def _from_shapes(weights: Weights, own: Mapping[str, LazyTensor]) -> tuple[Ltx2Layout, str]:
    foreign = [name for name in own if _LTX_VIDEO_TENSOR.fullmatch(name)]
    if foreign:  # LTX-Video 0.9.5 has the layout of LTX-2.0, but pads with zeros instead of by reflection
        raise CheckpointError(
            f"{weights.path} has no description of its VAE in its header, and holds {listed(foreign)}, which LTX-Video "
            f"has and no published LTX-2 has: take the original file, whose header has the description"
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
            f"({', '.join(layout.upsampling)}) are of no published model: take the original file, whose header has "
            f"the description"
        )
    residual, padding = _BY_MODEL[variant]
    for kind, options in described["decoder_blocks"]:
        if kind != "res_x":
            options["residual"] = residual
    described |= {"encoder_spatial_padding_mode": "zeros", "decoder_spatial_padding_mode": padding}
    assumed = f"{padding} padding, {'residual' if residual else 'plain'} upsampling, a decoder that is not causal"
    note = f"its header has no description; its upsamplers are those of {variant}, so assumed: {assumed}"
    return Ltx2Layout(described, weights.path), note


def _statistics(weights: Weights, prefix: str) -> dict[str, LazyTensor]:
    """Return the means and standard deviations of the latents, stored with or without the prefix.

    Raises:
        CheckpointError: they are stored more than once, with different values.
    """
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
