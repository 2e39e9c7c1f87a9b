"""What a user types for a model on the Hugging Face hub, or for one file of it, as a value.

org/name                                        a model
hf://org/name                                   a model, even if a folder `org` exists here
org/name/folder/ae.safetensors                  one file of a model, also with hf:// before it
hf://org/name@revision/folder                   a folder of a model at a revision
https://huggingface.co/org/name/blob/main/...   the address of a page or of a file, as a browser shows it
"""

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ...runtime.errors import CheckpointError
from ...tiling.plain_text import shown

__all__ = ["HubAddress", "has_form_of_id", "hub_address"]

_PART = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}"
_ENDINGS = r"\.(safetensors|sft|ckpt|pth?|bin|msgpack|json|zip|onnx|gguf|npz?|npy|tar|gz)"
_ID = re.compile(rf"{_PART}/(?!.*{_ENDINGS}$){_PART}", re.IGNORECASE)
_FILE_OF_MODEL = re.compile(rf"(?P<id>{_PART}/{_PART})/(?P<path>(?:{_PART}/){{0,8}}{_PART}{_ENDINGS})", re.IGNORECASE)
_EXPLICIT = re.compile(rf"hf://(?P<id>{_PART}/{_PART})(?:@(?P<revision>[^/\s]{{1,200}}))?(?:/(?P<path>.+?))?/?")
_PATH = re.compile(rf"(?:{_PART}/){{0,8}}{_PART}")
_ENDS_AS_FILE = re.compile(rf".*{_ENDINGS}", re.IGNORECASE)
_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_PAGE = re.compile(rf"(?P<id>{_PART}/{_PART})(?:/(?:resolve|blob|raw|tree)/(?P<revision>[^/]+)(?:/(?P<path>.+?))?)?/?")


@dataclass(frozen=True)
class HubAddress:
    """A model on the hub, or a part of it.

    Attributes:
        model: the model, as `org/name`.
        revision: branch, tag or commit; None for the default branch.
        folder: a folder of the model; None for the model itself.
        file: the path of one file of the model; None if no file was named.
    """

    model: str
    revision: str | None = None
    folder: str | None = None
    file: str | None = None


def has_form_of_id(source: str) -> bool:
    """Return True if a source has the form `org/name`, or of a file of a model, `org/name/ae.safetensors`."""
    return _ID.fullmatch(source) is not None or _FILE_OF_MODEL.fullmatch(source) is not None


def hub_address(source: str) -> HubAddress | None:
    """Return what a source names on the hub, or None if the source can only be a local path.

    `hf://org/name` always names a model. `org/name` and `org/name/file.safetensors` name a model and its file unless a
    file or folder `org` exists here: then the source is more likely a path with a spelling mistake, which must not be
    sent over the network. A source never names a model if it starts with a dot, a slash, a tilde or a drive, or has
    another number of parts.

    Args:
        source: the string exactly as the user typed it. (`pathlib` drops a leading `./`.)

    Raises:
        CheckpointError: the source is an address on the internet, and not that of a model on the hub.
    """
    if "://" in source and not source.startswith("hf://"):
        return _of_url(source)
    if match := _EXPLICIT.fullmatch(source):
        return _address(match["id"], match["revision"], match["path"])
    if os.path.lexists(source.split("/")[0]):
        return None
    if _ID.fullmatch(source):
        return HubAddress(source)
    match = _FILE_OF_MODEL.fullmatch(source)
    return None if match is None else HubAddress(match["id"], file=match["path"])


def _of_url(source: str) -> HubAddress:
    try:
        parts = urlsplit(source)
        host = parts.netloc
    except ValueError:
        parts, host = None, ""
    endpoint = urlsplit(os.environ.get("HF_ENDPOINT") or "").netloc
    if parts is not None and parts.scheme in ("https", "http") and host and host in (*_HOSTS, endpoint):
        match = _PAGE.fullmatch(parts.path.lstrip("/"))
        path = unquote(match["path"]) if match and match["path"] else None
        address = match and _address(match["id"], unquote(match["revision"] or "") or None, path)
        if address:
            return address
        raise CheckpointError(
            f"{shown(source)} is not the address of a model or of a file of a model on the hub: give org/name, or the "
            f"address of the file"
        )
    raise CheckpointError(
        f"{shown(source)} is not on the Hugging Face hub, and nothing is fetched from other places: fetch the file "
        f"yourself, and give its path"
    )


def _address(model: str, revision: str | None, path: str | None) -> HubAddress | None:
    if path is None:
        return HubAddress(model, revision)
    if not _PATH.fullmatch(path):
        return None
    if _ENDS_AS_FILE.fullmatch(path):
        return HubAddress(model, revision, file=path)
    return HubAddress(model, revision, folder=path)
