"""Turns trained weights into a diffusers folder: limits activations, rounds to float16, and checks the result."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn


def round_to_half(model: nn.Module) -> None:
    """Round all parameters to float16. Buffers stay unchanged."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())


def write_folder(model: nn.Module, config: dict[str, Any], folder: Path) -> int:
    """Write config.json and diffusion_pytorch_model.safetensors, and return the size of the weights in bytes.

    Parameters are stored as float16, the buffers `latents_mean` and `latents_std` as float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parameters = dict(model.named_parameters())
    tensors: dict[str, Tensor] = {
        name: (value.half() if name in parameters else value.float()).contiguous()
        for name, value in model.state_dict().items()
    }
    weights = folder / "diffusion_pytorch_model.safetensors"
    save_file(tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # safetensors makes it readable only for its owner
    text = json.dumps(dict(sorted(config.items())), indent=2)
    (folder / "config.json").write_text(text + "\n")
    return weights.stat().st_size


@torch.no_grad()
def limit_activations(model: Any, sample: Tensor) -> None:
    """Scale the activations of an `AutoencoderKL` to a deviation near 1, so that float16 holds them easily.

    Each normalisation divides by the deviation of its input, so training lets deviations grow from layer to layer.
    Factors that are powers of two undo the growth. The pictures stay the same.
    """
    for coder, data in ((model.encoder, sample), (model.decoder, model.encoder(sample).chunk(2, dim=1)[0])):
        deviations: dict[nn.Module, float] = {}

        def measure(
            module: nn.Module, _inputs: object, output: Tensor, seen: dict[nn.Module, float] = deviations
        ) -> None:
            seen[module] = output.std().item()

        convolutions = [module for module in coder.modules() if isinstance(module, nn.Conv2d)]
        handles = [module.register_forward_hook(measure) for module in convolutions]
        coder(data)
        for handle in handles:
            handle.remove()

        def factor(convolution: nn.Module, seen: dict[nn.Module, float] = deviations) -> float:
            return 2.0 ** -round(math.log2(seen[convolution]))

        now = 1.0  # factor on the activations between the blocks at this point
        for name, module in coder.named_modules():
            if name == "conv_in" or name.endswith("samplers.0.conv"):
                now = _scale(module, now, factor(module))
            elif hasattr(module, "conv_shortcut"):
                if module.conv_shortcut is not None:
                    now = _scale(module.conv_shortcut, now, factor(module.conv_shortcut))
                _scale(module.conv1, 1.0, factor(module.conv1))
                _scale(module.conv2, 1.0, now)


@torch.no_grad()
def limit_video_activations(model: Any, sample: Tensor) -> None:
    """Scale the activations of an `AutoencoderKLLTX2Video`, with one factor per half, since samplers add their input.

    Afterwards no activation between the blocks exceeds 64, so that even its square fits in float16.
    """
    for coder, data in ((model.encoder, sample), (model.decoder, model.encoder(sample).chunk(2, dim=1)[0])):
        largest = 0.0

        def measure(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            nonlocal largest
            largest = max(largest, output.abs().max().item())

        blocks = coder.down_blocks if hasattr(coder, "down_blocks") else coder.up_blocks
        handles = [block.register_forward_hook(measure) for block in blocks]
        coder(data)
        for handle in handles:
            handle.remove()
        factor = 2.0 ** -max(math.ceil(math.log2(largest / 48)), 0)
        for name, module in coder.named_modules():
            if name == "conv_in.conv" or name.endswith("conv2.conv"):
                _scale(module, 1.0, factor)
            elif name.endswith("samplers.0.conv.conv"):
                _scale(module, factor, factor)


def _scale(convolution: nn.Conv2d | nn.Conv3d, before: float, after: float) -> float:
    """Change a convolution so that its output has the factor `after` if its input has the factor `before`."""
    convolution.weight.mul_(after / before)
    assert convolution.bias is not None
    convolution.bias.mul_(after)
    return after


@torch.no_grad()
def largest_activation(model: Any, sample: Tensor) -> float:
    """Return the largest magnitude of all layers' results while `sample` is encoded and decoded."""
    largest = 0.0

    def look(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.abs().max().item())

    handles = [module.register_forward_hook(look) for module in model.modules()]
    encoded = model.encoder(sample)
    model.decoder(encoded[:, : encoded.shape[1] // 2])
    for handle in handles:
        handle.remove()
    return largest
