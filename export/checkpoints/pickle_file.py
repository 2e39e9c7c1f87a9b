"""Pickles (`.bin`, `.pt`, `.pth`, `.ckpt`): refused, or read for their tensors if allowed. None of their code runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import CheckpointError
from ...runtime.system.tensor_files.pickle_machine import HostilePickle, Made
from ...runtime.system.tensor_files.stored_dtypes import widened
from ...runtime.system.tensor_files.torch_file import read_torch_file
from ...runtime.system.tensor_files.torch_tensor import TorchFileError, TorchTensor
from ...tiling.plain_text import shown
from .checkpoint import LazyTensor
from .listing import listed

__all__ = ["PickledTensors", "open_pickle"]

# Keys under which training programs keep the weights of a model, the first that is there counts.
_WEIGHTS = ("state_dict", "model_state_dict", "model", "module", "net", "params", "generator")
# Keys under which they keep moving averages of the weights (EMA).
_AVERAGES = ("ema", "ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "params_ema", "shadow_params")
_MOST_DEPTH = 8  # dicts within dicts
_MOST_CHARACTERS = 16 << 20  # of all names; 10,000 tensors have 1 MiB
_REFUSED = "holds more than tensors, or is damaged, so it is not opened even with --allow-pickle"


@dataclass(frozen=True)
class PickledTensors:
    """The tensors of a pickle.

    Attributes:
        tensors: by their names; names of dicts within dicts are joined by dots.
        notes: assumptions that were made, each the end of a sentence.
    """

    tensors: Mapping[str, LazyTensor]
    notes: tuple[str, ...] = ()


def open_pickle(path: Path, *, allowed: bool) -> PickledTensors:
    """Open the tensors of a pickled state dict, or of the state dict that a training program keeps under a known key.

    Args:
        path: the file.
        allowed: False refuses the file.

    Raises:
        CheckpointError: pickles are not allowed, or the file is damaged, was made to run code, or holds no state dict.
    """
    if not allowed:
        raise CheckpointError(
            f"{path} is a pickle, which can run code when it is loaded, so it is not opened: take the model's "
            f"safetensors file, or pass --allow-pickle, which reads tensors and nothing else"
        )
    content = _content(path)
    notes: tuple[str, ...] = ()
    for _ in range(_MOST_DEPTH):
        if not isinstance(content, dict) or any(isinstance(value, TorchTensor) for value in content.values()):
            break
        key = next((key for key in (*_WEIGHTS, *_AVERAGES) if _flat(path, content.get(key))), None)
        if key is None:
            break
        averages = [name for name in _AVERAGES if _flat(path, content.get(name))]
        if key in _AVERAGES:
            notes = (f"its only weights are the moving averages under {key!r}",)
        elif averages:
            notes = (f"it also holds moving averages ({listed(averages)}); the weights under {key!r} are taken",)
        content = content[key]
    if not isinstance(content, dict):
        got = f"an object of {content.of}" if isinstance(content, Made) else type(content).__name__
        raise CheckpointError(f"{path} must hold a dict of tensors, got {got}: save the model's state_dict()")
    # Counters, settings and objects of other libraries (global_step, callbacks, ...) are left out.
    return PickledTensors({name: _lazy(path, tensor) for name, tensor in _flat(path, content).items()}, notes)


def _content(path: Path) -> Any:
    """What the file holds.

    Raises:
        CheckpointError: it is damaged, or was made to run code.
    """
    try:
        return read_torch_file(path, checksums=False)
    except HostilePickle as error:
        raise CheckpointError(f"{path} {_REFUSED}: it calls {shown(str(error))}, which no model needs") from error
    except TorchFileError as error:
        raise CheckpointError(str(error)) from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error


def _lazy(path: Path, tensor: TorchTensor) -> LazyTensor:
    """The tensor with a `read` that gives float32."""

    def read() -> NDArray[np.float32]:
        if tensor.stored is None:
            raise CheckpointError(
                f"{path}: a tensor that the model needs is stored as {tensor.dtype}; supported: float32, float16, "
                f"bfloat16, float8 (e4m3 and e5m2), float64"
            )
        try:
            return widened(tensor.read(), tensor.stored)
        except TorchFileError as error:
            raise CheckpointError(str(error)) from error

    return LazyTensor(tensor.shape, tensor.dtype, read)


def _flat(path: Path, content: Any) -> dict[str, TorchTensor]:
    """The tensors of a dict and of the dicts in it, by the names that dots join.

    Raises:
        CheckpointError: a small file names its dicts so often that there is no end of names.
    """
    found: dict[str, TorchTensor] = {}
    characters = 0
    waiting: list[tuple[str, Any, int]] = [("", content, 0)]
    while waiting:
        prefix, value, depth = waiting.pop()
        characters += len(prefix) + 1
        if characters > _MOST_CHARACTERS:
            raise CheckpointError(f"{path} {_REFUSED}: its names take more than {_MOST_CHARACTERS >> 20} MiB")
        if isinstance(value, TorchTensor) and prefix:
            found[prefix] = value
        elif isinstance(value, dict) and depth < _MOST_DEPTH:
            inner = [(f"{prefix}.{key}" if prefix else str(key), one, depth + 1) for key, one in value.items()]
            waiting += reversed(inner)
    return found
