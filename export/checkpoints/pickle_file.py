"""Pickles (`.bin`, `.pt`, `.pth`, `.ckpt`): refused, or read by torch with `weights_only=True` if allowed."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import CheckpointError
from ...runtime.extras import require
from .checkpoint import LazyTensor

__all__ = ["PICKLE_ENDINGS", "open_pickle"]

PICKLE_ENDINGS = (".bin", ".pt", ".pth", ".ckpt")


def open_pickle(path: Path, *, allowed: bool) -> dict[str, LazyTensor]:
    """Open the tensors of a pickled state dict, or of the state dict under the key `state_dict`.

    torch maps the file into memory, except for files of its older format, which it reads completely.

    Args:
        path: the file.
        allowed: False refuses the file.

    Raises:
        CheckpointError: pickles are not allowed, or the file is damaged or holds more than tensors.
        MissingExtra: torch is not installed.
    """
    if not allowed:
        raise CheckpointError(
            f"{path} is a pickle, which can run code when it is loaded, so it is not opened: take the model's "
            f"safetensors file, or pass --allow-pickle, which reads tensors and nothing else"
        )
    torch = require("torch", extra="export")
    import pickle
    import zipfile

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors, or is damaged, so it is not opened even with --allow-pickle: "
            f"convert it to safetensors where you trust it"
        ) from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # on damaged bytes, torch raises errors of any kind, as IndexError and struct.error
        raise CheckpointError(f"{path} is not a pickle that torch can read: it is damaged; fetch it again") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a dict of tensors, got {type(content).__name__}")
    # Counters and settings (global_step, ...) are left out.
    return {str(name): _lazy(value) for name, value in content.items() if isinstance(value, torch.Tensor)}


def _lazy(tensor: Any) -> LazyTensor:
    import torch

    def read() -> NDArray[np.float32]:
        return np.asarray(tensor.detach().to(torch.float32).contiguous().numpy())

    return LazyTensor(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), read)
