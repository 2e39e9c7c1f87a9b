"""diffusers folders: `config.json` and `diffusion_pytorch_model.safetensors`."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...runtime.config import config_from_dict
from ...runtime.errors import CheckpointError, ConfigError
from ..safetensors_file import SafetensorsFile
from .checkpoint import Checkpoint, LazyTensor

__all__ = ["CONFIG_NAME", "PICKLE_ENDINGS", "WEIGHTS_NAME", "open_diffusers_folder"]

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"
PICKLE_ENDINGS = (".bin", ".pt", ".pth", ".ckpt")

# Attention's parameter names before diffusers 0.17.
_OLD_ATTENTION = re.compile(r"(mid_block\.attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)")
_NEW_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def open_diffusers_folder(folder: Path, overrides: Mapping[str, Any] | None = None) -> Checkpoint:
    """Read a folder's config and its weights' header. `overrides` replace config fields (say, scaling_factor).

    Raises:
        CheckpointError: config or weights are missing or damaged, or the weights are a pickle.
        ConfigError: the config is incomplete or unsupported.
    """
    values = _read_config(folder)
    weights = folder / WEIGHTS_NAME
    if not weights.is_file():
        raise CheckpointError(_no_weights(folder))
    config = config_from_dict({**values, **(overrides or {})})
    for name in overrides or {}:
        if not hasattr(config, name):
            raise ConfigError(f"{config.family} has no {name}: leave --{name.replace('_', '-')} out")
    file = SafetensorsFile(weights)
    tensors = {}
    for name, entry in file.items():
        tensor = LazyTensor(entry.shape, entry.dtype, lambda name=name: file.read(name))  # type: ignore[misc]
        renamed = rename_old_attention(name)
        if renamed != name and len(entry.shape) == 4 and entry.shape[2:] == (1, 1):
            tensor = tensor.reshaped(entry.shape[:2])
        if renamed in tensors:
            raise CheckpointError(
                f"{weights} holds {renamed} twice, once by its old name: it is damaged; fetch it again"
            )
        tensors[renamed] = tensor
    return Checkpoint(folder, config, tensors)


def rename_old_attention(name: str) -> str:
    """A parameter's name of today, for the attention names of old files; other names as they are."""
    match = _OLD_ATTENTION.search(name)
    if match is None:
        return name
    return f"{name[: match.start()]}{match[1]}.{_NEW_ATTENTION[match[2]]}.{match[3]}"


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        has = (
            f"it has {WEIGHTS_NAME} but no {CONFIG_NAME}" if (folder / WEIGHTS_NAME).is_file() else f"no {CONFIG_NAME}"
        )
        hint = "; for a pipeline, give its vae subfolder" if (folder / "model_index.json").is_file() else ""
        raise CheckpointError(f"{folder} is not a diffusers model folder: {has}{hint}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {type(values).__name__}")
    return values


def _no_weights(folder: Path) -> str:
    pickles = [path.name for path in folder.iterdir() if path.suffix in PICKLE_ENDINGS]
    if pickles:
        return (
            f"{folder} has its weights only as a pickle ({pickles[0]}), which can run code when it is loaded, so it is "
            f"not opened: save the model as safetensors (diffusers: save_pretrained(..., safe_serialization=True))"
        )
    endings = (".safetensors", ".safetensors.index.json")
    others = sorted(path.name for path in folder.iterdir() if path.name.endswith(endings) and path.is_file())
    if others:
        found = others[0]
        return f"{folder} has no {WEIGHTS_NAME} but {found}: variants and shards are not read yet; rename or merge it"
    return f"{folder} has {CONFIG_NAME} but no {WEIGHTS_NAME}: the weights are missing"
