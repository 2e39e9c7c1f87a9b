"""Checkpoints in their original names, made from diffusers' tensors.

The maps here go the other way than the package's, and are written the other way too: as the published tables, entry by
entry, and not as patterns.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "FULL_LTX_20",
    "FULL_LTX_23",
    "FULL_SDXL",
    "description_of",
    "ldm_name",
    "ldm_tensors",
    "ltx2_tensors",
    "write_sparse",
]

FULL_SDXL: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
}
FULL_LTX_20: dict[str, Any] = {
    "_class_name": "AutoencoderKLLTX2Video",
    "decoder_causal": False,
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
FULL_LTX_23: dict[str, Any] = FULL_LTX_20 | {
    "block_out_channels": [256, 512, 1024, 1024],
    "layers_per_block": [4, 6, 4, 2, 2],
    "decoder_block_out_channels": [256, 512, 512, 1024],
    "decoder_layers_per_block": [4, 6, 4, 2, 2],
    "decoder_spatio_temporal_scaling": [True] * 4,
    "decoder_inject_noise": [False] * 5,
    "upsample_type": ["spatiotemporal", "spatiotemporal", "temporal", "spatial"],
    "upsample_residual": [False] * 4,
    "upsample_factor": [2, 2, 1, 2],
    "decoder_spatial_padding_mode": "zeros",
}

_LDM = [
    ("mid_block.resnets.0", "mid.block_1"),
    ("mid_block.resnets.1", "mid.block_2"),
    ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
    ("mid_block.attentions.0.to_q", "mid.attn_1.q"),
    ("mid_block.attentions.0.to_k", "mid.attn_1.k"),
    ("mid_block.attentions.0.to_v", "mid.attn_1.v"),
    ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"),
    ("conv_norm_out", "norm_out"),
    ("conv_shortcut", "nin_shortcut"),
    (".downsamplers.0.", ".downsample."),
    (".upsamplers.0.", ".upsample."),
    (".resnets.", ".block."),
]


def ldm_name(name: str, levels: int) -> str:
    """The LDM name of a diffusers parameter."""
    for index in range(levels):
        name = name.replace(f"encoder.down_blocks.{index}.", f"encoder.down.{index}.")
        name = name.replace(f"decoder.up_blocks.{index}.", f"decoder.up.{levels - 1 - index}.")
    for ours, theirs in _LDM:
        name = name.replace(ours, theirs)
    return name


def ldm_tensors(tensors: Mapping[str, Any], prefix: str = "", *, matrices: bool = False) -> dict[str, Any]:
    """Arrays (or shapes) by LDM name. Attention's weights are 1x1 convolutions there, unless `matrices`."""
    levels = len({name.split(".")[2] for name in tensors if name.startswith("decoder.up_blocks.")})
    renamed = {}
    for name, value in tensors.items():
        inner = ldm_name(name, levels)
        is_matrix = ".mid.attn_1." in inner and inner.endswith("weight") and ".norm." not in inner
        if is_matrix and not matrices:
            value = (*value, 1, 1) if isinstance(value, tuple) else value[:, :, None, None]
        renamed[prefix + inner] = value
    return renamed


def ltx2_tensors(
    tensors: Mapping[str, Any], config: Mapping[str, Any], prefix: str = "vae.", statistics: str | None = None
) -> dict[str, Any]:
    """Arrays (or shapes) by LTX-2's own names; `statistics` is the prefix of the statistics where it is another."""
    down = len(config["block_out_channels"])
    up = len(config["decoder_block_out_channels"])
    table = [(f"encoder.down_blocks.{i}.downsamplers.0.", f"encoder.down_blocks#{2 * i + 1}.") for i in range(down)]
    table += [(f"encoder.down_blocks.{i}.", f"encoder.down_blocks#{2 * i}.") for i in range(down)]
    table += [
        ("encoder.mid_block.", f"encoder.down_blocks#{2 * down}."),
        ("decoder.mid_block.", "decoder.up_blocks#0."),
    ]
    table += [(f"decoder.up_blocks.{i}.upsamplers.0.", f"decoder.up_blocks#{2 * i + 1}.") for i in range(up)]
    table += [(f"decoder.up_blocks.{i}.", f"decoder.up_blocks#{2 * i + 2}.") for i in range(up)]
    table += [("decoder.time_embedder.", "decoder.last_time_embedder."), (".resnets.", ".res_blocks."), ("#", ".")]
    renamed = {}
    for name, value in tensors.items():
        inner = "decoder.last_scale_shift_table" if name == "decoder.scale_shift_table" else name
        for ours, theirs in table:
            inner = inner.replace(ours, theirs)
        renamed[prefix + inner] = value
    place = (prefix if statistics is None else statistics) + "per_channel_statistics."
    for ours, theirs in (("latents_mean", "mean-of-means"), ("latents_std", "std-of-means")):
        value = renamed.pop(prefix + ours)
        renamed[place + theirs] = value
        renamed[place + f"unused-{theirs}".replace("unused-mean-of-means", "mean-of-stds")] = value
        renamed[place + "channel"] = value
    return {name: value for name, value in renamed.items() if "unused" not in name}


def description_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The `config.vae` that LTX-2's files would have for a config of diffusers, fields as in the released ones."""
    down = {"spatial": "compress_space_res", "temporal": "compress_time_res", "spatiotemporal": "compress_all_res"}
    up = {"spatial": "compress_space", "temporal": "compress_time", "spatiotemporal": "compress_all"}
    downsample = config.get("downsample_type", ["spatial", "temporal", "spatiotemporal", "spatiotemporal"])
    upsample = config.get("upsample_type", ["spatiotemporal"] * 3)
    latents = config.get("latent_channels", 128)
    encoder: list[Any] = []
    for before, width, layers, kind in zip(
        [latents, *config["block_out_channels"]],
        config["block_out_channels"],
        config["layers_per_block"],
        downsample,
        strict=False,
    ):
        encoder += [["res_x", {"num_layers": layers}], [down[kind], {"multiplier": width // before}]]
    encoder.append(["res_x", {"num_layers": config["layers_per_block"][-1]}])
    count = len(config["decoder_block_out_channels"])
    residual = config.get("upsample_residual", [True] * count)
    factor = config.get("upsample_factor", [2] * count)
    noise = config.get("decoder_inject_noise", [False] * (count + 1))
    decoder: list[Any] = []
    for index, layers in enumerate(config["decoder_layers_per_block"]):
        decoder.append(["res_x", {"num_layers": layers, "inject_noise": noise[index]}])
        if index < count:
            options = {"multiplier": factor[index]} | ({"residual": True} if residual[index] else {})
            decoder.append([up[upsample[count - 1 - index]], options])
    padding = config.get("decoder_spatial_padding_mode", "reflect")
    return {
        "_class_name": "CausalVideoAutoencoder",
        "dims": 3,
        "in_channels": config.get("in_channels", 3),
        "out_channels": config.get("out_channels", 3),
        "latent_channels": latents,
        "encoder_blocks": encoder,
        "decoder_blocks": decoder,
        "scaling_factor": 1.0,
        "norm_layer": "pixel_norm",
        "patch_size": config.get("patch_size", 4),
        "latent_log_var": "uniform",
        "use_quant_conv": False,
        "causal_decoder": config.get("decoder_causal", True),
        "timestep_conditioning": config.get("timestep_conditioning", False),
        "normalize_latent_channels": False,
    } | ({"spatial_padding_mode": "zeros"} if padding == "zeros" else {})


def write_sparse(
    path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str = "BF16", metadata: Mapping[str, str] | None = None
) -> int:
    """A safetensors file of zeros that takes no room on the disk; gives the bytes of its data."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + int(np.prod(shape, dtype=np.int64)) * {"BF16": 2, "F16": 2, "F32": 4}[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return end
