"""Models on the Hugging Face hub (`org/name`): find the files that a VAE needs, and fetch them into the hub's cache.

This is the only module that opens a connection, and it does so only for a name that the user gave.
"""

import logging
from pathlib import Path
from typing import Any

from ...runtime.errors import CheckpointError, MissingExtra
from ...runtime.extras import require
from .diffusers_folder import CONFIG_NAME, WEIGHTS_STEM, choose_weights, weights_files
from .file_kind import PICKLE_ENDINGS, SAFETENSORS_ENDINGS
from .flax_folder import FLAX_NAME
from .hub_address import HubAddress
from .listing import listed
from .shards import shard_names

__all__ = ["fetch_from_hub", "fetch_model_card"]

_log = logging.getLogger(__name__)
_MOST_CANDIDATES = 8  # that a message lists


def fetch_from_hub(address: HubAddress, *, variant: str | None = None, allow_pickle: bool = False) -> Path:
    """Fetch one set of weights of a VAE, with its config if it has one, and return the local folder or file.

    No other file of the repository is fetched, and no file that the cache holds already. Without a connection, the
    folder or file in the cache is returned.

    Args:
        address: the model. Without a folder or file in it, the config is looked for at the root and in `vae`. A model
            without a config is read if it has one file of weights.
        variant: variant of the weights, as in `choose_weights`.
        allow_pickle: accept weights in a pickle.

    Raises:
        CheckpointError: the model, revision or file does not exist, there is no permission or no connection, or the
            repository holds no VAE, or several files that may be one.
        MissingExtra: huggingface_hub is not installed.
    """
    name, revision = address.model, address.revision
    try:
        hub = require("huggingface_hub", extra="hub")
    except MissingExtra as error:
        raise MissingExtra(f"{name} is not a local path, and as a model on the hub {error}") from error
    where = f"{name}{f' at {revision}' if revision else ''}"
    try:
        listing = hub.HfApi().model_info(name, revision=revision)
        names = [file.rfilename for file in listing.siblings or []]
        file = address.file or _single_file(where, names, address, allow_pickle)
        if file is not None:
            return _fetched_file(hub, where, names, address, file, allow_pickle)
        place = _place(where, names, address.folder)
        wanted = [CONFIG_NAME, *_weights(where, names, place, variant, allow_pickle)]
        root = _snapshot(hub, name, revision, place, wanted)
        if wanted[-1].endswith(".json"):
            root = _snapshot(hub, name, revision, place, [*wanted, *shard_names(root / place / wanted[-1])])
    except CheckpointError:
        raise
    except Exception as error:  # the library raises its own errors, those of its HTTP client, and OSError
        if not _answered(error):
            return _cached(hub, where, address)
        raise CheckpointError(_refusal(where, error)) from error
    return root / place


def fetch_model_card(model: str, revision: str) -> None:
    """Fetch the README.md of a model at a commit into the hub's cache. A model without one, and a hub that cannot be
    reached, are no errors.

    Raises:
        MissingExtra: huggingface_hub is not installed.
    """
    hub = require("huggingface_hub", extra="hub")
    try:
        hub.hf_hub_download(model, "README.md", revision=revision)
    except Exception as error:  # the library raises its own errors, those of its HTTP client, and OSError
        _log.info("the model card of %s cannot be read: %s", model, error)


def _single_file(where: str, names: list[str], address: HubAddress, allow_pickle: bool) -> str | None:
    """Return the only file of weights of a repository without a config; None if the repository has a config.

    Raises:
        CheckpointError: there are several such files.
    """
    places = ("", "vae") if address.folder is None else (address.folder,)
    if any(_inside(place, CONFIG_NAME) in names for place in places):
        return None
    here = [name for name in names if name.rpartition("/")[0] == (address.folder or "")]
    safe = [name for name in here if name.lower().endswith(SAFETENSORS_ENDINGS)]
    found = safe or [name for name in here if name.lower().endswith(PICKLE_ENDINGS)]
    if not safe and found and not allow_pickle:
        raise CheckpointError(
            f"{where} has its weights only as a pickle ({listed(found)}), which can run code when it is loaded, so it "
            f"is not fetched: pass --allow-pickle, which reads tensors and nothing else"
        )
    if len(found) > 1:
        raise CheckpointError(
            f"{where} has no {CONFIG_NAME} and {len(found)} files of weights ({_candidates(found)}): give one of them, "
            f"as hf://{address.model}/{found[0]}"
        )
    return found[0] if found else None


def _fetched_file(hub: Any, where: str, names: list[str], address: HubAddress, file: str, allow_pickle: bool) -> Path:
    """Fetch one file and what belongs to it: the config of a diffusers or Flax file, and the shards of an index."""
    place, _, own = file.rpartition("/")
    if file not in names:
        others = [name for name in names if name.lower().endswith((*SAFETENSORS_ENDINGS, *PICKLE_ENDINGS))]
        has = f"it has {_candidates(others)}" if others else "it has no file of weights"
        raise CheckpointError(f"{where} has no file {file}: {has}")
    if file.lower().endswith(PICKLE_ENDINGS) and not allow_pickle:
        raise CheckpointError(
            f"{file} of {where} is a pickle, which can run code when it is loaded, so it is not fetched: take a "
            f"safetensors file, or pass --allow-pickle, which reads tensors and nothing else"
        )
    wanted = [own]
    if own.startswith((WEIGHTS_STEM, FLAX_NAME)) and _inside(place, CONFIG_NAME) in names:
        wanted.append(CONFIG_NAME)
    root = _snapshot(hub, address.model, address.revision, place, wanted)
    if own.endswith(".index.json"):
        wanted += shard_names(root / file)
        root = _snapshot(hub, address.model, address.revision, place, wanted)
    return root / file


def _candidates(names: list[str]) -> str:
    return ", ".join(names[:_MOST_CANDIDATES]) + (", ..." if len(names) > _MOST_CANDIDATES else "")


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


def _cached(hub: Any, where: str, address: HubAddress) -> Path:
    """Return the folder or file in the cache. The cache may hold only a part of the repository."""
    places = ("", "vae") if address.folder is None else (address.folder,)
    for file in [address.file] if address.file else [_inside(place, CONFIG_NAME) for place in places]:
        found = hub.try_to_load_from_cache(address.model, file, revision=address.revision)
        if isinstance(found, str):
            return Path(found) if address.file else Path(found).parent
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
