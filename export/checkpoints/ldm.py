"""Image VAEs in single files, with the tensor names of the LDM / CompVis code (SD 1.x, 2.x, SDXL, SD3, FLUX) or of
diffusers.

The map of names follows the published models. LDM counts the blocks of the decoder from the picture, diffusers from the
latents.
"""

import re
from collections.abc import Mapping
from typing import Any

from ...runtime.errors import CheckpointError
from .checkpoint import LazyTensor
from .diffusers_folder import TRAINING_COUNTER, rename_old_attention
from .found_checkpoint import FoundCheckpoint
from .listing import listed
from .parameters.kl import kl_fields
from .published import missing_scaling, published_model
from .weights import Weights

__all__ = ["open_ldm"]

_LEVEL = re.compile(r"(encoder\.down|decoder\.up)\.(\d{1,4})\.(?:block\.(\d{1,4})|(downsample|upsample))\.(.+)")
_MID_BLOCK = re.compile(r"(encoder|decoder)\.mid\.block_([12])\.(.+)")
_MID_ATTENTION = re.compile(r"(encoder|decoder)\.mid\.attn_1\.(norm|q|k|v|proj_out)\.(weight|bias)")
_NORM_OUT = re.compile(r"(encoder|decoder)\.norm_out\.(weight|bias)")
_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_MATRIX = re.compile(r"\.attentions\.0\.to_(q|k|v|out\.0)\.weight$")  # 1x1 convolutions in LDM, linear in diffusers
# Prefixes of FLUX.2's original files -> prefixes in diffusers.
_FLUX2 = {"encoder.quant_conv.": "quant_conv.", "decoder.post_quant_conv.": "post_quant_conv."}
_TRAINING = ("loss.", "model_ema.")  # prefixes of the discriminator and the moving averages of a training run
_QUESTION = "these are diffusers' names; is the file whole, and a VAE of this kind and nothing more?"


def open_ldm(weights: Weights, prefix: str) -> FoundCheckpoint:
    """Open the image VAE whose tensor names start with `prefix`.

    Raises:
        CheckpointError: the VAE is incomplete, or holds a tensor twice.
    """
    own, others = _split(weights.tensors, prefix)
    levels = 1 + max((int(match[2]) for match in map(_LEVEL.fullmatch, own) if match), default=0)
    tensors: dict[str, LazyTensor] = {}
    for name, tensor in own.items():
        renamed = diffusers_name(name, levels)
        if _MATRIX.search(renamed) and len(tensor.shape) > 2 and set(tensor.shape[2:]) == {1}:
            tensor = tensor.reshaped(tensor.shape[:2])
        if renamed in tensors:
            raise CheckpointError(
                f"{weights.path} holds {listed([renamed])} twice, by two names: it is damaged; fetch it again"
            )
        tensors[renamed] = tensor
    try:
        fields = kl_fields({name: tensor.shape for name, tensor in tensors.items()})
    except (KeyError, IndexError) as error:
        raise CheckpointError(
            f"{weights.path}: its VAE is incomplete or damaged ({error}, in diffusers' names): fetch it again"
        ) from error
    model = published_model(fields, others, weights)
    return FoundCheckpoint(
        weights.path,
        {**fields, **(model.fields if model else {})},
        tensors,
        format=_format(own, prefix, others),
        variant=model.name if model else "",
        notes=(model.note,) if model else (),
        question=_QUESTION,
        missing=None if model else missing_scaling(weights.path, fields),
        files=weights.files,
    )


def diffusers_name(name: str, levels: int) -> str:
    """Translate the name of an LDM parameter to diffusers; names of diffusers and unknown names stay unchanged.

    Args:
        name: name of the parameter, without the prefix of the VAE.
        levels: number of resolutions of the decoder. LDM and diffusers count them in opposite orders.
    """
    if match := _LEVEL.fullmatch(name):
        side, level, block, sampler, rest = match.groups()
        index = int(level) if side == "encoder.down" else levels - 1 - int(level)
        inner = f"resnets.{block}" if block else f"{sampler}rs.0"
        return f"{side}_blocks.{index}.{inner}.{_shortcut(rest)}"
    if match := _MID_BLOCK.fullmatch(name):
        return f"{match[1]}.mid_block.resnets.{int(match[2]) - 1}.{_shortcut(match[3])}"
    if match := _MID_ATTENTION.fullmatch(name):
        return f"{match[1]}.mid_block.attentions.0.{_ATTENTION[match[2]]}.{match[3]}"
    if match := _NORM_OUT.fullmatch(name):
        return f"{match[1]}.conv_norm_out.{match[2]}"
    for theirs, ours in _FLUX2.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return rename_old_attention(name)


def _shortcut(rest: str) -> str:
    return rest.replace("nin_shortcut.", "conv_shortcut.") if rest.startswith("nin_shortcut.") else rest


def _split(tensors: Mapping[str, LazyTensor], prefix: str) -> tuple[dict[str, LazyTensor], dict[str, LazyTensor]]:
    """Return the tensors of the VAE by their names without the prefix, and all other tensors."""
    own, others = {}, {}
    for name, tensor in tensors.items():
        inner = name.removeprefix(prefix)
        if not name.startswith(prefix) or inner.startswith(_TRAINING) or inner == TRAINING_COUNTER:
            others[name] = tensor
        else:
            own[inner] = tensor
    return own, others


def _format(own: Mapping[str, Any], prefix: str, others: Mapping[str, Any]) -> str:
    names = "diffusers'" if any(".down_blocks." in name for name in own) else "LDM"
    place = f"under {prefix}" if prefix else "under bare names"
    return f"single file ({names} names {place}{', inside a larger checkpoint' if others else ''})"
