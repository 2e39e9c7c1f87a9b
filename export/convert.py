"""Converts a checkpoint to a diffusers folder: `config.json` and float32 safetensors. It needs no torch."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runtime.config.model_config import ModelConfig
from ..runtime.system.outputs.partial_output import partial_output, require_free, translated_errors
from .checkpoints import SourceOptions, open_checkpoint
from .checkpoints.diffusers_folder import CONFIG_NAME, WEIGHTS_NAME
from .weights.safetensors_file import write_safetensors

__all__ = ["ConversionReport", "ConvertSettings", "convert_checkpoint"]


@dataclass(frozen=True)
class ConvertSettings:
    """How `convert_checkpoint` reads the checkpoint.

    Attributes:
        overrides: config fields that replace the checkpoint's, such as {"scaling_factor": 0.18215}.
        source: how to read the checkpoint.
    """

    overrides: Mapping[str, Any] | None = None
    source: SourceOptions | None = None


@dataclass(frozen=True)
class ConversionReport:
    """What `convert_checkpoint` wrote.

    Attributes:
        folder: the diffusers folder.
        size_bytes: the bytes of the weights, in float32.
        tensors: the number of tensors.
        config: the model's config.
        variant: the published model that the checkpoint holds; "" if that is unknown.
        format: the format of the source, as a phrase.
        notes: the assumptions that were made, each a sentence.
    """

    folder: Path
    size_bytes: int
    tensors: int
    config: ModelConfig
    variant: str
    format: str
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as values for JSON."""
        return {
            "folder": str(self.folder),
            "bytes": self.size_bytes,
            "family": self.config.family,
            "variant": self.variant,
            "format": self.format,
            "notes": self.notes,
            "config": self.config.to_dict(),
        }


def convert_checkpoint(
    source: str | Path,
    folder: str | Path,
    settings: ConvertSettings | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> ConversionReport:
    """Write a checkpoint as a diffusers folder. The folder exists afterwards only if everything succeeded.

    The function needs no PyTorch. One tensor is in memory at a time.

    Args:
        source: a path or a model on the hub, as `export_bundle` takes it.
        folder: the folder to write, which is new or empty.
        settings: how to read the source; by default `ConvertSettings()`.
        progress: called before each tensor with (name of the step, bytes done, bytes in all). It may raise an exception
            to stop the conversion.

    Returns:
        The folder, its model, and what is known about the source.

    Raises:
        CheckpointError, ConfigError: the source cannot be used.
        OutputError: `folder` exists and is not empty, or cannot be written.
    """
    settings = settings or ConvertSettings()
    folder = Path(folder)
    checkpoint = open_checkpoint(source, settings.overrides, settings.source)
    require_free(folder)
    shapes = {name: tensor.shape for name, tensor in sorted(checkpoint.tensors.items())}
    total = 4 * sum(map(math.prod, shapes.values()))
    done = 0

    def read(name: str) -> Any:
        nonlocal done
        done += 4 * math.prod(shapes[name])
        if progress is not None:
            progress("weights", done, total)
        return checkpoint.tensors[name].read()

    with partial_output(folder, last_name=CONFIG_NAME) as temporary, translated_errors(folder):
        temporary.mkdir()
        write_safetensors(temporary / WEIGHTS_NAME, shapes, read, metadata={"format": "pt"})
        text = json.dumps(_diffusers_fields(checkpoint.config), indent=2, allow_nan=False)
        (temporary / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
    return ConversionReport(
        folder, total, len(shapes), checkpoint.config, checkpoint.variant, checkpoint.format, checkpoint.notes
    )


def _diffusers_fields(config: ModelConfig) -> dict[str, Any]:
    """Return the fields of `config.json`.

    Statistics that are stored as tensors are no fields of it. They are None here, since `Checkpoint.with_statistics`
    has not run.
    """
    return {key: value for key, value in config.to_dict().items() if value is not None}
