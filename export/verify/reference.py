"""The PyTorch reference model on NumPy arrays."""

import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ...runtime.calls.conditions import DECODE_TIMESTEP, draw_noise
from ..checkpoints import Checkpoint
from ..memory_errors import memory_errors
from ..models.reference_model import model_from_config

__all__ = ["SEED", "Reference", "timed"]

Array = NDArray[np.float32]
_Result = TypeVar("_Result")
SEED = 0
"""Seed of the noise that decoders inject."""
# Largest result that is kept. The results on random arrays are smaller, and every backend is compared with them.
_KEPT_BYTES = 16 << 20


class Reference:
    """The PyTorch model with the checkpoint's weights, on NumPy arrays. Small results and their times are kept.

    Raises:
        EngineError: the weights do not fit into memory.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.config = checkpoint.config
        self.model: Any = model_from_config(self.config)
        with memory_errors(f"loading the PyTorch reference of {checkpoint.source}", "free some memory"):
            state = {name: torch.from_numpy(tensor.read()) for name, tensor in checkpoint.tensors.items()}
            self.model.load_state_dict(state, strict=True, assign=True)
        self._kept: dict[tuple[str, bool | None, tuple[int, ...], bytes], tuple[Array, float]] = {}

    def timed(self, component: str, array: Array, causal: bool | None) -> tuple[Array, float]:
        """Run a component, and return its result and the time that it took, in seconds.

        Args:
            component: "encoder" or "decoder".
            array: a sample or latents.
            causal: causality of a video model; None for the config's own.

        Raises:
            EngineError: memory ran out.
        """
        key = component, causal, array.shape, sha256(np.ascontiguousarray(array).data).digest()
        if key in self._kept:
            return self._kept[key]
        shape = str(array.shape)
        with memory_errors(f"the {component} of the PyTorch reference on {shape}"):
            found = timed(partial(self.encode if component == "encoder" else self.decode, array, causal))
        if found[0].nbytes <= _KEPT_BYTES:
            self._kept[key] = found
        return found

    def encode(self, sample: Array, causal: bool | None) -> Array:
        """Encode a sample to moments (B, 2 * latent_channels, ...)."""
        with torch.no_grad():
            return np.asarray(self.model.encode(torch.from_numpy(sample), **self._causal(causal)))

    def decode(self, latents: Array, causal: bool | None) -> Array:
        """Decode model latents to a sample, with the noise of `SEED` and the default timestep."""
        options: dict[str, Any] = self._causal(causal)
        if self.config.noise_stacks:
            height, width = latents.shape[-2:]
            drawn = draw_noise(self.config, (height, width), SEED)
            maps = iter(torch.from_numpy(noise) for noise in drawn.values())
            options["noise"] = tuple(next(maps) if noisy else None for noisy in self.config.inject_noise)
        if self.config.timestep_conditioning:
            options["temb"] = torch.full((latents.shape[0],), DECODE_TIMESTEP)
        with torch.no_grad():
            return np.asarray(self.model.decode(torch.from_numpy(latents), **options))

    def _causal(self, causal: bool | None) -> dict[str, Any]:
        return {"causal": causal} if self.config.video else {}


def timed(function: Callable[[], _Result]) -> tuple[_Result, float]:
    """Call a function, and return its result and the time that it took, in seconds."""
    started = time.perf_counter()
    result = function()
    return result, time.perf_counter() - started
