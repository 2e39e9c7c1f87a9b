"""From what the user typed to a checkpoint: one function that recognises the kind of source."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...runtime.errors import CheckpointError
from .checkpoint import Checkpoint
from .diffusers_folder import CONFIG_NAME, PICKLE_ENDINGS, open_diffusers_folder

__all__ = ["open_checkpoint"]


def open_checkpoint(source: Path, overrides: Mapping[str, Any] | None = None) -> Checkpoint:
    """Open a checkpoint. `overrides` replace config fields where they are given (scaling_factor, shift_factor).

    Raises:
        CheckpointError: the source is missing, is not a checkpoint, or is of a kind that is not read.
        ConfigError: its config is incomplete or unsupported.
    """
    if source.is_dir():
        if not (source / CONFIG_NAME).is_file() and (source / "vae" / CONFIG_NAME).is_file():
            source = source / "vae"
        return open_diffusers_folder(source, overrides)
    if not source.exists():
        raise CheckpointError(f"{source} does not exist: give a folder with {CONFIG_NAME} and safetensors weights")
    if source.suffix in PICKLE_ENDINGS:
        raise CheckpointError(
            f"{source} is a pickle, which can run code when it is loaded, so it is not opened: "
            f"save the model as a diffusers folder with safetensors weights"
        )
    raise CheckpointError(
        f"{source} is a file; this version reads diffusers folders ({CONFIG_NAME} and safetensors weights)"
    )
