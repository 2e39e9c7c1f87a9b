"""Opens the checkpoint that the user named: one function that recognises the kind of source."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ...runtime.bundle.not_a_bundle import MANIFEST_NAME
from ...runtime.config.families import config_from_dict
from ...runtime.config.kl import MissingScalingFactor
from ...runtime.config.model_config import ModelConfig
from ...runtime.errors import CheckpointError, ConfigError
from .checkpoint import CONFIG_QUESTION, Checkpoint
from .diffusers_folder import CONFIG_NAME, WEIGHTS_STEM, open_diffusers_folder, weights_files
from .flax_folder import FLAX_NAME, open_flax_folder
from .found_checkpoint import FoundCheckpoint
from .hub import fetch_from_hub
from .hub_address import HubAddress, has_form_of_id, hub_address
from .parameters.of_config import family_parameters, parameters_of
from .published import missing_shift
from .single_file import open_single_file

__all__ = ["SourceOptions", "open_checkpoint"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceOptions:
    """How to read a source.

    Attributes:
        subfolder: subfolder that holds the VAE; None looks at the folder itself and in `vae`.
        revision: branch, tag or commit of a model on the hub; None takes the default branch.
        variant: variant of the weights (fp16, ...); None takes the plain weights.
        allow_pickle: read the tensors of a pickle.
    """

    subfolder: str | None = None
    revision: str | None = None
    variant: str | None = None
    allow_pickle: bool = False


def open_checkpoint(
    source: Path | str, overrides: Mapping[str, Any] | None = None, options: SourceOptions | None = None
) -> Checkpoint:
    """Open a checkpoint: recognise it, give its tensors their diffusers names, and check that they fit its config.

    Weights are not read yet. Reading a weight that is not finite raises CheckpointError.

    Args:
        source: a path, or a model on the hub or one of its files in the forms of `hub_address`: `org/name`, or
            `hf://org/name` if a file or folder `org` exists here too. A string is taken as typed: `./models/vae` is
            always a path. A `Path` is never a model on the hub, since `Path("./models/vae")` has lost its `./`.
        overrides: config fields that replace those of the source (scaling_factor, shift_factor).
        options: how to read the source.

    Raises:
        CheckpointError: the source is missing, is not a checkpoint, is of an unsupported kind, or its tensors do not
            fit its config.
        ConfigError: the config is incomplete or unsupported.
    """
    found = _recognised(source, options or SourceOptions())
    overrides = overrides or {}
    missing = found.missing or missing_shift(found.source, {**found.fields, **overrides})
    if missing is not None and not overrides.keys() >= set(missing.fields):
        raise MissingScalingFactor(missing.sentence, missing.fields)
    config = _config(found, {**found.fields, **overrides})
    for name in overrides:
        if name not in {field.name for field in fields(config)}:
            raise ConfigError(f"{config.family} has no {name}: leave --{name.replace('_', '-')} out")
    for note in found.notes:
        _log.warning("%s: %s", found.source, note)
    family = family_parameters(config)
    checkpoint = Checkpoint(
        found.source,
        config,
        found.tensors,
        found.format,
        found.variant or family.published(config),
        found.notes,
        found.question,
        family.statistics,
        found.files,
    )
    _check_size(checkpoint)
    return checkpoint.checked(parameters_of(config)).finite()


def _config(found: FoundCheckpoint, fields: Mapping[str, Any]) -> ModelConfig:
    try:
        return config_from_dict(fields)
    except MissingScalingFactor:
        raise
    except ConfigError as error:
        if found.question == CONFIG_QUESTION:  # the fields come from a config.json
            raise
        reason = str(error).removesuffix("; correct config.json")
        raise ConfigError(
            f"{found.source} has no config.json, and the config that follows from its tensors is no use ({reason}): "
            f"give the diffusers folder that holds its config.json"
        ) from error


def _check_size(checkpoint: Checkpoint) -> None:
    """Refuse a config with more layers than the source has tensors, before anything of that size is built."""
    total = checkpoint.config.layer_count
    if total > len(checkpoint.tensors):
        raise CheckpointError(
            f"{checkpoint.source}: the weights do not fit the config of {checkpoint.config.family}: it has {total} "
            f"layers, and there are {len(checkpoint.tensors)} tensors; {checkpoint.question}"
        )


def _recognised(typed: Path | str, options: SourceOptions) -> FoundCheckpoint:
    source = Path(typed)
    if source.is_dir():
        return _open_folder(source, options)
    if source.exists():
        return _open_file(source, options)
    address = hub_address(typed) if isinstance(typed, str) else None
    if address is not None:
        address = _with_options(address, options)
        found = fetch_from_hub(address, variant=options.variant, allow_pickle=options.allow_pickle)
        if found.is_file():
            return _open_file(found, options)
        return _open_folder(found, replace(options, subfolder=None))
    raise CheckpointError(_missing(typed))


def _open_file(source: Path, options: SourceOptions) -> FoundCheckpoint:
    if not source.is_file():
        raise CheckpointError(f"{source} is not a regular file: give a folder or a file with weights")
    if source.name.startswith(WEIGHTS_STEM) and (source.parent / CONFIG_NAME).is_file():
        return open_diffusers_folder(source.parent, file=source.name, allow_pickle=options.allow_pickle)
    if source.name == FLAX_NAME:
        return open_flax_folder(source.parent)
    return open_single_file(source, allow_pickle=options.allow_pickle)


def _with_options(address: HubAddress, options: SourceOptions) -> HubAddress:
    """The address with the revision and the subfolder of the options.

    Raises:
        CheckpointError: address and options name different ones.
    """
    if options.revision is not None and address.revision not in (None, options.revision):
        raise CheckpointError(
            f"the address names the revision {address.revision}, and --revision names {options.revision}: give one"
        )
    folder = address.folder if options.subfolder in (None, ".", "") else options.subfolder.strip("/")
    if address.folder not in (None, folder) or (address.file and folder):
        raise CheckpointError(
            f"the address names {address.file or address.folder}, and --subfolder names {folder}: give one of them"
        )
    return replace(address, revision=options.revision or address.revision, folder=folder)


def _missing(typed: Path | str) -> str:
    """Explain why a source that does not exist is not looked up on the hub."""
    if isinstance(typed, Path):
        return f"{typed} does not exist: give a folder or a file, or a model on the hub as the string org/name"
    if has_form_of_id(typed):
        here = typed.split("/")[0]
        return (
            f"{typed} does not exist, and {here} exists here, so it is taken as a path and not looked up on the hub: "
            f"correct the path, or write hf://{typed} for the model of that name"
        )
    return (
        f"{typed} does not exist: give a folder with {CONFIG_NAME} and safetensors "
        f"weights, a weights file, or a model on the hub as org/name"
    )


def _open_folder(folder: Path, options: SourceOptions) -> FoundCheckpoint:
    if (folder / MANIFEST_NAME).is_file() and not (folder / CONFIG_NAME).is_file():
        raise CheckpointError(
            f"{folder} is a bundle, not a checkpoint: it is the result of an export; give the checkpoint that it was "
            f"made from, or use the bundle as it is"
        )
    if options.subfolder is not None:
        if not (folder / options.subfolder).is_dir():
            raise CheckpointError(
                f"{folder} has no subfolder {options.subfolder}: leave --subfolder out, or correct it"
            )
        folder = folder / options.subfolder
    elif not (folder / CONFIG_NAME).is_file() and (folder / "vae" / CONFIG_NAME).is_file():
        folder = folder / "vae"
    names = [path.name for path in folder.iterdir()]
    if FLAX_NAME in names and all(file.pickle for file in weights_files(names)):
        return open_flax_folder(folder)
    return open_diffusers_folder(folder, variant=options.variant, allow_pickle=options.allow_pickle)
