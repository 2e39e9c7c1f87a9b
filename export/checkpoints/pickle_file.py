"""Pickles (`.bin`, `.pt`, `.pth`, `.ckpt`): refused, or read for their tensors if allowed. None of their code runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...runtime.errors import CheckpointError
from .checkpoint import LazyTensor
from .listing import listed
from .pickle_machine import Made
from .torch_file import read_torch_file

__all__ = ["PickledTensors", "open_pickle"]

# Keys under which training programs keep the weights of a model, the first that is there counts.
_WEIGHTS = ("state_dict", "model_state_dict", "model", "module", "net", "params", "generator")
# Keys under which they keep moving averages of the weights (EMA).
_AVERAGES = ("ema", "ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "params_ema", "shadow_params")
_MOST_DEPTH = 8  # dicts within dicts


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
    content = read_torch_file(path)
    notes: tuple[str, ...] = ()
    for _ in range(_MOST_DEPTH):
        if not isinstance(content, dict) or any(isinstance(value, LazyTensor) for value in content.values()):
            break
        key = next((key for key in (*_WEIGHTS, *_AVERAGES) if _flat(content.get(key))), None)
        if key is None:
            break
        averages = [name for name in _AVERAGES if _flat(content.get(name))]
        if key in _AVERAGES:
            notes = (f"its only weights are the moving averages under {key!r}",)
        elif averages:
            notes = (f"it also holds moving averages ({listed(averages)}); the weights under {key!r} are taken",)
        content = content[key]
    if not isinstance(content, dict):
        got = f"an object of {content.of}" if isinstance(content, Made) else type(content).__name__
        raise CheckpointError(f"{path} must hold a dict of tensors, got {got}: save the model's state_dict()")
    # Counters, settings and objects of other libraries (global_step, callbacks, ...) are left out.
    return PickledTensors(_flat(content), notes)


def _flat(content: Any) -> dict[str, LazyTensor]:
    """The tensors of a dict and of the dicts in it, by the names that dots join."""
    found: dict[str, LazyTensor] = {}
    waiting: list[tuple[str, Any, int]] = [("", content, 0)]
    while waiting:
        prefix, value, depth = waiting.pop()
        if isinstance(value, LazyTensor) and prefix:
            found[prefix] = value
        elif isinstance(value, dict) and depth < _MOST_DEPTH:
            inner = [(f"{prefix}.{key}" if prefix else str(key), one, depth + 1) for key, one in value.items()]
            waiting += reversed(inner)
    return found
