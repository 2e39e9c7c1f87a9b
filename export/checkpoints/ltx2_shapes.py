"""Builds the description of an LTX-2 VAE from the shapes of its tensors, for files without a description."""

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["ltx2_description"]

Shapes = Mapping[str, tuple[int, ...]]
# Values per cell that a sampler moves between space-time and channels -> its kind in the description.
_KINDS = {2: "compress_time", 4: "compress_space", 8: "compress_all"}


def ltx2_description(shapes: Shapes) -> dict[str, Any]:
    """Derive a description in the form of `config.vae`.

    The shapes determine neither the padding nor which upsamplers are residual; these entries stay out.

    Args:
        shapes: shape of each tensor, by its original name without the prefix of the VAE.

    Raises:
        KeyError: a tensor that determines an entry is missing.
        ValueError: the shapes are not those of an LTX-2 VAE.
    """
    latents = shapes["encoder.conv_in.conv.weight"][0]
    patch = round((shapes["encoder.conv_in.conv.weight"][1] / 3) ** 0.5)
    encoder = _blocks(shapes, "encoder.down_blocks", shapes["encoder.conv_out.conv.weight"][1])
    decoder = _blocks(shapes, "decoder.up_blocks", shapes["decoder.conv_out.conv.weight"][1])
    return {
        "in_channels": 3,
        "out_channels": shapes["decoder.conv_out.conv.weight"][0] // patch**2,
        "latent_channels": latents,
        "patch_size": patch,
        "encoder_blocks": [[_down(kind), options] for kind, options in encoder],
        "decoder_blocks": [[kind, options] for kind, options in decoder[::-1]],
    }


def _down(kind: str) -> str:
    return kind if kind == "res_x" else f"{kind}_res"


def _blocks(shapes: Shapes, side: str, width_out: int) -> list[tuple[str, dict[str, Any]]]:
    """Return the blocks in the order in which the tensors number them."""
    numbered: dict[int, set[str]] = {}
    for name in shapes:
        if match := re.match(rf"{re.escape(side)}\.(\d{{1,4}})\.(.+)", name):
            numbered.setdefault(int(match[1]), set()).add(match[2])
    if sorted(numbered) != list(range(len(numbered))):
        raise ValueError(f"blocks are missing among {side}")
    blocks: list[tuple[str, dict[str, Any]]] = []
    for index in sorted(numbered):
        layers = {int(match[1]) for inner in numbered[index] if (match := re.match(r"res_blocks\.(\d{1,4})\.", inner))}
        if layers:
            noise = any(inner.endswith("per_channel_scale1") for inner in numbered[index])
            blocks.append(("res_x", {"num_layers": max(layers) + 1, "inject_noise": noise}))
            continue
        rows, inputs = shapes[f"{side}.{index}.conv.conv.weight"][:2]
        following = f"{side}.{index + 1}.res_blocks.0.conv1.conv.weight"
        outputs = shapes[following][1] if following in shapes else width_out
        blocks.append(_sampler(rows, inputs, outputs, encoder=side.startswith("encoder")))
    return blocks


def _sampler(rows: int, inputs: int, outputs: int, *, encoder: bool) -> tuple[str, dict[str, Any]]:
    """Derive the kind and the multiplier of a sampler.

    Args:
        rows: output channels of its convolution.
        inputs: input channels of its convolution.
        outputs: channels of its result.
        encoder: True for a downsampler.
    """
    small, large = (rows, outputs) if encoder else (outputs, rows)
    before, after = (inputs, outputs) if encoder else (outputs, inputs)
    if not small or not before or large % small or large // small not in _KINDS or after % before:
        raise ValueError(f"a sampler from {inputs} to {outputs} channels with {rows} rows is none of LTX-2's")
    return _KINDS[large // small], {"multiplier": after // before}
