"""Any checkpoint to a diffusers folder: `config.json` and float32 safetensors. Needs no torch."""

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..runtime.config.model_config import ModelConfig
from ..runtime.errors import OutputError
from ..runtime.system.partial_output import partial_output, translated_errors
from .checkpoints import Checkpoint, SourceOptions, open_checkpoint
from .checkpoints.diffusers_folder import CONFIG_NAME, WEIGHTS_NAME
from .weights.safetensors_file import write_safetensors

__all__ = ["convert_checkpoint"]


def convert_checkpoint(
    source: Path | str,
    folder: Path,
    overrides: Mapping[str, Any] | None = None,
    options: SourceOptions | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Checkpoint:
    """Write the checkpoint as a diffusers folder, which exists afterwards only if everything succeeded.

    One tensor is in memory at a time. `progress` is called with (what is being done, bytes done, bytes in all).

    Raises:
        CheckpointError, ConfigError: the source cannot be used.
        OutputError: `folder` exists already, or cannot be written.
    """
    checkpoint = open_checkpoint(source, overrides, options)
    if os.path.lexists(folder):
        raise OutputError(f"{folder} exists already: give a new folder, or delete this one first")
    shapes = {name: tensor.shape for name, tensor in sorted(checkpoint.tensors.items())}
    total = 4 * sum(map(math.prod, shapes.values()))
    done = 0

    def read(name: str) -> Any:
        nonlocal done
        done += 4 * math.prod(shapes[name])
        if progress is not None:
            progress("weights", done, total)
        return checkpoint.tensors[name].read()

    with partial_output(folder) as temporary, translated_errors(folder):
        temporary.mkdir()
        write_safetensors(temporary / WEIGHTS_NAME, shapes, read, metadata={"format": "pt"})
        text = json.dumps(_diffusers_fields(checkpoint.config), indent=2, allow_nan=False)
        (temporary / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
    return checkpoint


def _diffusers_fields(config: ModelConfig) -> dict[str, Any]:
    """What `config.json` holds. Statistics that are tensors have no fields there, and none here before
    `Checkpoint.with_statistics`."""
    return {key: value for key, value in config.to_dict().items() if value is not None}
