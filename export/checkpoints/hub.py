"""Models on the Hugging Face hub (`org/name`): find the files that a VAE needs, and fetch them into the hub's cache.

This is the only module that opens a connection, and it does so only for a name that the user gave.
"""

import os
import re
from pathlib import Path
from typing import Any

from ...runtime.errors import CheckpointError, MissingExtra
from ...runtime.extras import require
from .diffusers_folder import CONFIG_NAME, choose_weights, weights_files
from .flax_folder import FLAX_NAME
from .shards import shard_names

__all__ = ["fetch_from_hub", "has_form_of_id", "hub_id"]

_PART = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}"
_ENDINGS = r"\.(safetensors|sft|ckpt|pth?|bin|msgpack|json|zip|onnx|gguf|npz?|npy|tar|gz)"
_ID = re.compile(rf"{_PART}/(?!.*{_ENDINGS}$){_PART}", re.IGNORECASE)
_EXPLICIT = re.compile(rf"hf://(?P<id>{_PART}/{_PART})")


def has_form_of_id(source: str) -> bool:
    """Return True if a source has the form `org/name` and not the ending of a file."""
    return _ID.fullmatch(source) is not None


def hub_id(source: str) -> str | None:
    """Return the model on the hub that a source names, or None if the source can only be a local path.

    `hf://org/name` always names a model. `org/name` names a model unless a file or folder `org` exists here: then the
    source is more likely a path with a spelling mistake, which must not be sent over the network. A source never names
    a model if it starts with a dot, a slash, a tilde or a drive, has another number of parts, or has the ending of a
    file.

    Args:
        source: the string exactly as the user typed it. (`pathlib` drops a leading `./`.)
    """
    explicit = _EXPLICIT.fullmatch(source)
    if explicit is not None:
        return explicit["id"]
    organisation = source.split("/")[0]
    return source if has_form_of_id(source) and not os.path.lexists(organisation) else None


def fetch_from_hub(
    name: str,
    *,
    subfolder: str | None = None,
    revision: str | None = None,
    variant: str | None = None,
    allow_pickle: bool = False,
) -> Path:
    """Fetch the config and one set of weights of a VAE, and return the local folder that holds them.

    No other file of the repository is fetched, and no file that the cache holds already. Without a connection, the
    folder in the cache is returned.

    Args:
        name: the model, as `org/name`.
        subfolder: folder of the repository that holds the VAE. None looks at the root and in `vae`.
        revision: branch, tag or commit; None takes the default branch.
        variant: variant of the weights, as in `choose_weights`.
        allow_pickle: accept weights in a pickle.

    Raises:
        CheckpointError: the model or revision does not exist, there is no permission or no connection, or the
            repository holds no VAE.
        MissingExtra: huggingface_hub is not installed.
    """
    try:
        hub = require("huggingface_hub", extra="hub")
    except MissingExtra as error:
        raise MissingExtra(f"{name} is not a local path, and as a model on the hub {error}") from error
    where = f"{name}{f' at {revision}' if revision else ''}"
    try:
        listing = hub.HfApi().model_info(name, revision=revision)
        names = [file.rfilename for file in listing.siblings or []]
        place = _place(where, names, subfolder)
        wanted = [CONFIG_NAME, *_weights(where, names, place, variant, allow_pickle)]
        root = _snapshot(hub, name, revision, place, wanted)
        if wanted[-1].endswith(".json"):
            root = _snapshot(hub, name, revision, place, [*wanted, *shard_names(root / place / wanted[-1])])
    except CheckpointError:
        raise
    except Exception as error:  # the library raises its own errors, those of its HTTP client, and OSError
        if not _answered(error):
            return _cached(hub, name, where, subfolder, revision)
        raise CheckpointError(_refusal(where, error)) from error
    return root / place


def _place(where: str, names: list[str], subfolder: str | None) -> str:
    """Return the folder of the repository that holds the VAE; "" is the root."""
    if subfolder is not None:
        if f"{subfolder}/{CONFIG_NAME}" not in names:
            raise CheckpointError(f"{where} has no {subfolder}/{CONFIG_NAME}: correct --subfolder")
        return subfolder
    for place in ("", "vae"):
        if _inside(place, CONFIG_NAME) in names:
            return place
    raise CheckpointError(f"{where} has no {CONFIG_NAME} at its root or in vae: name its folder with --subfolder")


def _weights(where: str, names: list[str], place: str, variant: str | None, allow_pickle: bool) -> list[str]:
    """Return the file that stands for the weights: safetensors, an index of shards, a pickle, or Flax weights."""
    prefix = _inside(place, "")
    here = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    here = [name for name in here if "/" not in name]
    if FLAX_NAME in here and all(file.pickle for file in weights_files(here)):
        return [FLAX_NAME]
    return [choose_weights(where, here, variant, allow_pickle).name]


def _snapshot(hub: Any, name: str, revision: str | None, place: str, wanted: list[str]) -> Path:
    """Fetch files with progress bars, and return the folder of the revision in the cache.

    The revision is passed by its name, not by its commit. Otherwise the cache could not resolve the name later without
    a connection.
    """
    patterns = [_inside(place, file) for file in wanted]
    return Path(hub.snapshot_download(name, revision=revision, allow_patterns=patterns))


def _inside(place: str, file: str) -> str:
    return f"{place}/{file}" if place else file


def _cached(hub: Any, name: str, where: str, subfolder: str | None, revision: str | None) -> Path:
    """Return the folder in the cache. The cache may hold only a part of the repository."""
    for place in ("", "vae") if subfolder is None else (subfolder,):
        config = hub.try_to_load_from_cache(name, _inside(place, CONFIG_NAME), revision=revision)
        if isinstance(config, str):
            return Path(config).parent
    raise CheckpointError(
        f"{where} is not a local path, the hub cannot be reached, and its cache does not hold the model: "
        f"connect, or give a local folder or file"
    )


def _answered(error: Exception) -> bool:
    """Return True if the hub answered, though with a refusal."""
    from huggingface_hub import errors

    return isinstance(error, errors.HfHubHTTPError | errors.HFValidationError) and not isinstance(
        error, errors.OfflineModeIsEnabled
    )


def _refusal(where: str, error: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.RevisionNotFoundError):
        return f"{where} does not exist on the hub: the model has no such revision; correct --revision"
    if isinstance(error, errors.GatedRepoError):
        return f"{where} is gated: accept its terms on the hub, then log in with `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{where} is neither a local path nor a model on the hub that you can see: correct the name, or log in "
            f"with `hf auth login` if it is private"
        )
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return f"fetching {where} from the hub failed ({reason}): try again, or give a local folder or file"
