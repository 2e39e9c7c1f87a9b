"""Devices, the loaded models, and the flag that interrupts."""

from typing import Any

import torch

__all__ = [
    "InterruptProcessingException",
    "get_torch_device",
    "intermediate_device",
    "interrupt_current_processing",
    "load_models_gpu",
    "loaded",
    "processing_interrupted",
    "throw_exception_if_processing_interrupted",
    "unload_all_models",
]

loaded: list[Any] = []
_state = {"interrupted": False}


class InterruptProcessingException(Exception):
    """The user has interrupted."""


def get_torch_device() -> torch.device:
    """The device of models."""
    return torch.device("cpu")


def intermediate_device() -> torch.device:
    """The device of results."""
    return torch.device("cpu")


def load_models_gpu(models: list[Any], memory_required: float = 0) -> None:
    """Load models as ComfyUI does: each that is not loaded is asked to load."""
    assert memory_required >= 0
    for model in models:
        if model not in loaded:
            loaded.append(model)
        model.partially_load(model.load_device, 1e32, force_patch_weights=False)


def unload_all_models() -> None:
    """Evict every model, first in part and then as a whole."""
    while loaded:
        model = loaded.pop()
        needed = model.loaded_size() - 1
        if needed <= 0 or model.partially_unload(model.offload_device, needed) < needed:
            model.detach(True)


def interrupt_current_processing(value: bool = True) -> None:  # noqa: FBT001, FBT002, RUF100
    """Set or clear the flag."""
    _state["interrupted"] = value


def processing_interrupted() -> bool:
    """Whether the flag is set."""
    return _state["interrupted"]


def throw_exception_if_processing_interrupted() -> None:
    """Clear the flag and raise, if it is set."""
    if _state["interrupted"]:
        _state["interrupted"] = False
        raise InterruptProcessingException
