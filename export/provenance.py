"""Where a checkpoint comes from: its name, its commit on the hub, its files with their hashes, and its licence.

The licence is what the user states, or the field `license` of the model card: the README.md of the checkpoint, or of
the pipeline around it. For a model on the hub the card is fetched, as the weights are. It is never guessed.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ..runtime.bundle.graph import FileEntry
from ..runtime.bundle.source_record import SourceRecord
from ..runtime.errors import InputError
from ..runtime.system.file_identity import verified_sha256
from .checkpoints import Checkpoint
from .checkpoints.hub import fetch_model_card

__all__ = ["check_licence", "source_record"]

CARD_NAME = "README.md"
_MOST_CARD_BYTES = 1 << 16  # of a model card; its fields stand at the start
_FIELDS = re.compile(r"\A\ufeff?---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
_LICENCE = re.compile(r"^license:[ \t]*(.*)$(?:\n((?:[ \t]*-[ \t]+\S.*(?:\n|\Z))+))?", re.MULTILINE)
_LICENCE_NAME = re.compile(r"^license_name:[ \t]*(.*)$", re.MULTILINE)
_LONGEST = 200  # characters of a licence
_REPOSITORY = re.compile(r"models--(.+)")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def source_record(
    checkpoint: Checkpoint, name: str, licence: str | None, *, fetch: bool, on_file: Callable[[], None] = lambda: None
) -> SourceRecord:
    """The record of a checkpoint for a manifest. Every file that was read is hashed.

    The hash of a large file in the cache of the hub is its name there, so it is not read again.

    Args:
        checkpoint: the checkpoint.
        name: the name of the folder or file that the user gave. A model on the hub has its own name.
        licence: the licence that the user states, or None for that of the model card.
        fetch: whether the source was named as a model on the hub, so its card may be fetched.
        on_file: called before each file is read. It may raise an exception to stop.

    Raises:
        OSError: a file cannot be read.
    """
    place = _place_on_hub(checkpoint.source)
    root = _root(checkpoint) if place is None else place[2]
    card = licence
    if card is None and place is not None and fetch and not (root / CARD_NAME).is_file():
        fetch_model_card(place[0], place[1])
    return SourceRecord(
        name=(name or checkpoint.source.absolute().name) if place is None else place[0],
        revision=None if place is None else place[1],
        files=tuple(_entries(checkpoint, root, on_file)),
        licence=card if card is not None else _licence_of_cards(checkpoint, root),
    )


def check_licence(licence: str | None) -> None:
    """Refuse a licence that is no short line of text.

    Raises:
        InputError: it is empty, has several lines or control characters, or is too long.
    """
    if licence is not None and _clean(licence) is None:
        raise InputError(
            f"license must be one line of at most {_LONGEST} characters, such as apache-2.0, got {licence!r:.60}"
        )


def _entries(checkpoint: Checkpoint, root: Path, on_file: Callable[[], None]) -> Iterator[FileEntry]:
    for path in checkpoint.files:
        on_file()
        real = path.resolve()
        is_blob = real.parent.name == "blobs" and _SHA256.fullmatch(real.name)
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        yield FileEntry(name, real.stat().st_size, real.name if is_blob else verified_sha256(path))


def _root(checkpoint: Checkpoint) -> Path:
    return checkpoint.source if checkpoint.source.is_dir() else checkpoint.source.parent


def _place_on_hub(source: Path) -> tuple[str, str, Path] | None:
    """The model, the commit and the folder of the commit, if a path lies in the hub's cache."""
    path = source.absolute()
    for snapshot in (path, *path.parents):
        repository = _REPOSITORY.fullmatch(snapshot.parent.parent.name)
        if snapshot.parent.name == "snapshots" and repository:
            return repository[1].replace("--", "/", 1), snapshot.name, snapshot
    return None


def _licence_of_cards(checkpoint: Checkpoint, root: Path) -> str | None:
    """The licence in the model card next to the checkpoint, or in that of the pipeline around it."""
    own = _root(checkpoint)
    folders = [own]
    if own != root or (own.parent / "model_index.json").is_file():
        folders += [root] if own != root else [own.parent]
    return next(filter(None, map(_licence_of, folders)), None)


def _licence_of(folder: Path) -> str | None:
    try:
        with (folder / CARD_NAME).open("rb") as file:
            text = file.read(_MOST_CARD_BYTES).decode("utf-8", "replace").replace("\r\n", "\n")
    except OSError:
        return None
    fields = _FIELDS.match(text)
    if fields is None:
        return None
    stated = _LICENCE.search(fields[1])
    if stated is None:
        return None
    names = [_unquoted(stated[1])] if stated[1].strip() else []
    names += [_unquoted(line.strip().removeprefix("-")) for line in (stated[2] or "").splitlines()]
    named = _LICENCE_NAME.search(fields[1])
    if names == ["other"] and named:
        names = [_unquoted(named[1])]
    return _clean(", ".join(filter(None, names)))


def _unquoted(text: str) -> str:
    text = text.strip()
    quoted = re.fullmatch(r"'([^']*)'|\"([^\"]*)\"", re.sub(r"\s+#.*", "", text).strip())
    return (quoted[1] or quoted[2] or "") if quoted else re.sub(r"\s+#.*", "", text).strip("[] ")


def _clean(text: str) -> str | None:
    text = text.strip()
    return text if text and text.isprintable() and len(text) <= _LONGEST else None
