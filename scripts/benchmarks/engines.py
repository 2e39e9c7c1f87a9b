"""The three engines that are compared. Each function opens a component, and returns the call to time."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentrt.runtime.extras import require

__all__ = ["ENGINES", "random_input"]

Array = NDArray[np.float32]
Run = Callable[[], Array]


def random_input(component: str, shape: tuple[int, ...]) -> Array:
    """Return standard normal latents for a decoder, or their tanh in [-1, 1] for an encoder."""
    array = np.random.default_rng(1).standard_normal(shape, np.float32)
    return np.tanh(array) if component == "encoder" else array


def diffusers_eager(checkpoint: Path, bundle: Path, component: str, shape: tuple[int, ...], threads: int) -> Run:
    """Open diffusers' class with its defaults, in float32, without gradients."""
    import diffusers
    import torch

    torch.set_num_threads(threads)
    kind = json.loads((checkpoint / "config.json").read_text())["_class_name"]
    model: Any = getattr(diffusers, kind).from_pretrained(checkpoint).eval()
    setattr(model, "decoder" if component == "encoder" else "encoder", None)  # saves memory
    tensor = torch.from_numpy(random_input(component, shape))

    def run() -> Array:
        with torch.inference_mode():
            if component == "encoder":
                return np.asarray(model.encode(tensor).latent_dist.parameters)
            return np.asarray(model.decode(tensor).sample)

    return run


def latentrt_bundle(checkpoint: Path, bundle: Path, component: str, shape: tuple[int, ...], threads: int) -> Run:
    """Open a bundle as a user does, on ONNX Runtime's CPU provider."""
    from latentrt.runtime import open_bundle

    vae = open_bundle(bundle, backend="onnxruntime", provider="cpu", threads=threads)
    array = random_input(component, shape)
    if component == "encoder":
        return lambda: vae.encode(array).latent_dist.parameters
    return lambda: vae.decode(array).sample


def raw_session(checkpoint: Path, bundle: Path, component: str, shape: tuple[int, ...], threads: int) -> Run:
    """Open the bundle's graph in a plain ONNX Runtime session. The difference to `latentrt_bundle` is our overhead."""
    onnxruntime = require("onnxruntime", extra="cpu")

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(bundle / f"{component}.onnx", options, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: random_input(component, shape)}
    return lambda: session.run(None, inputs)[0]


ENGINES: dict[str, Callable[..., Run]] = {
    "diffusers": diffusers_eager,
    "latentrt": latentrt_bundle,
    "onnxruntime": raw_session,
}
