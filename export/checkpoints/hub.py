"""Models on the Hugging Face hub (`org/name`): which files a VAE needs, and fetching these into the hub's own cache.

This is the only place that opens a connection, and only for a name that the user gave.
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
    """Whether a source is of the form `org/name`, without the ending of a file."""
    return _ID.fullmatch(source) is not None


def hub_id(source: str) -> str | None:
    """The model on the hub that a source names, or None if it can only be a local path.

    `hf://org/name` always names a model. `org/name` does if neither such a path nor a file or folder `org` exists here:
    with one, the source is more likely a path with a spelling mistake, and such a path must not be sent over the
    network. A source that starts with a dot, a slash, a tilde or a drive, has another number of parts or the ending of
    a file is never a model's name.

    Args:
        source: exactly what the user typed. (`pathlib` drops a leading `./`.)
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
    """The local folder with the VAE's config and one set of its weights; nothing else of the repository is fetched,
    nor what the cache has. Without a connection the cache is all that there is.

    Raises:
        CheckpointError: no such model or revision, no permission, no connection, or no VAE in it.
        MissingExtra: huggingface_hub is not installed.
    """
    try:
        hub = require("huggingface_hub", extra="hub")
    except MissingExtra as error:
        raise MissingExtra(f"{name} is no local path, and as a model on the hub {error}") from error
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
    except Exception as error:  # the hub's library raises its own errors, those of its HTTP client, and OSError
        if not _answered(error):
            return _cached(hub, name, where, subfolder, revision)
        raise CheckpointError(_refusal(where, error)) from error
    return root / place


def _place(where: str, names: list[str], subfolder: str | None) -> str:
    """The folder of the repository that holds the VAE, "" being its root."""
    if subfolder is not None:
        if f"{subfolder}/{CONFIG_NAME}" not in names:
            raise CheckpointError(f"{where} has no {subfolder}/{CONFIG_NAME}: correct --subfolder")
        return subfolder
    for place in ("", "vae"):
        if _inside(place, CONFIG_NAME) in names:
            return place
    raise CheckpointError(f"{where} has no {CONFIG_NAME} at its root nor in vae: say where it is with --subfolder")


def _weights(where: str, names: list[str], place: str, variant: str | None, allow_pickle: bool) -> list[str]:
    """The file that stands for the weights: safetensors, an index of shards, or Flax's."""
    prefix = _inside(place, "")
    here = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    here = [name for name in here if "/" not in name]
    if FLAX_NAME in here and all(file.pickle for file in weights_files(here)):
        return [FLAX_NAME]
    return [choose_weights(where, here, variant, allow_pickle).name]


def _snapshot(hub: Any, name: str, revision: str | None, place: str, wanted: list[str]) -> Path:
    """Fetch files, with progress bars; the revision's folder in the cache. (By the revision's name and not its commit:
    only so the cache knows the name later, without a connection.)"""
    patterns = [_inside(place, file) for file in wanted]
    return Path(hub.snapshot_download(name, revision=revision, allow_patterns=patterns))


def _inside(place: str, file: str) -> str:
    return f"{place}/{file}" if place else file


def _cached(hub: Any, name: str, where: str, subfolder: str | None, revision: str | None) -> Path:
    """The folder in the cache, which need not hold the whole repository."""
    for place in ("", "vae") if subfolder is None else (subfolder,):
        config = hub.try_to_load_from_cache(name, _inside(place, CONFIG_NAME), revision=revision)
        if isinstance(config, str):
            return Path(config).parent
    raise CheckpointError(
        f"{where} is no local path, the hub cannot be reached, and its cache does not hold it: "
        f"connect, or give a local folder or file"
    )


def _answered(error: Exception) -> bool:
    """Whether the hub answered, though with a refusal."""
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
            f"{where} is neither a local path nor a model on the hub that can be seen: correct the name, or log in "
            f"with `hf auth login` if it is private"
        )
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return f"fetching {where} from the hub failed ({reason}): try again, or give a local folder or file"
