"""Diffusers folders with random weights, written tensor by tensor."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["write_checkpoint"]


def write_checkpoint(folder: Path, values: dict[str, Any]) -> int:
    """Write config.json and float32 weights, one tensor at a time, and return the number of parameters.

    Weights are uniform in +-1/sqrt(fan-in), which is PyTorch's scale for new convolutions. Weights of norms are near 1.
    """
    from latentrt.export.graphs.components import meta_model
    from latentrt.export.weights.safetensors_file import write_safetensors
    from latentrt.runtime.config.families import config_from_dict

    model = meta_model(config_from_dict(values))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    rng = np.random.default_rng(0)

    def draw(name: str) -> NDArray[np.float32]:
        shape = shapes[name]
        if name in ("latents_mean", "latents_std"):
            return np.full(shape, name == "latents_std", np.float32)
        weights = rng.random(shape, np.float32)
        weights -= np.float32(0.5)
        if len(shape) > 1:
            weights *= np.float32(2 / math.sqrt(math.prod(shape[1:])))
        elif name.endswith("weight"):
            weights = np.float32(0.2) * weights + np.float32(1)
        return weights

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(values, indent=2), encoding="utf-8")
    write_safetensors(folder / "diffusion_pytorch_model.safetensors", shapes, draw)
    return sum(map(math.prod, shapes.values()))
