"""Converts a checkpoint to a diffusers folder: `config.json` and float32 safetensors. It needs no torch."""

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..runtime.config import ModelConfig
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
    """Write a checkpoint as a diffusers folder. The folder exists afterwards only if everything succeeded.

    One tensor is in memory at a time.

    Args:
        source: a path or a model on the hub, as `open_checkpoint` takes it.
        folder: the new folder.
        overrides: config fields that replace those of the source (scaling_factor, shift_factor).
        options: how to read the source.
        progress: called before each tensor with (name of the step, bytes done, bytes in all).

    Returns:
        The checkpoint.

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
    """Return the fields of `config.json`.

    Statistics that are stored as tensors are no fields of it. They are None here, since `Checkpoint.with_statistics`
    has not run.
    """
    return {key: value for key, value in config.to_dict().items() if value is not None}
