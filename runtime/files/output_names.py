"""Names for the outputs of a folder's files: unique, found again by a rerun, and not too long."""

import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from ..media.encode_record import source_name

__all__ = ["output_names"]

_LATENTS = ".safetensors"
_MOST_NAME_BYTES = 255  # of a file name on the file systems of Linux, macOS and Windows
_LEAST_NAME_BYTES = 64  # a smaller limit that a system states is taken for an error


def output_names(
    sources: Sequence[Path], folder: Path, held: Mapping[str, str | None], *, endings: Sequence[str] | None = None
) -> list[Path]:
    """The output of each source. No two sources have the same output, even if the file system ignores case.

    A source keeps the output that it has already, even if there are new sources. Any other source is named by its stem
    (`a` for `a.png`), unless another source has that stem or another source's output has that name. Then it is named by
    its whole name, or else by its whole name and eight digits of its hash (`a.PNG` if there is `a.png`). A name that
    would be too long is cut, and gets the digits too.

    Args:
        sources: the sources.
        folder: the folder of the outputs. It need not exist.
        held: the names of the outputs in `folder`, with the source name that each records. None if it records none.
        endings: the ending of each source's output, with its dot. None for latents files.
    """
    names, most_bytes = [path.name for path in sources], _name_limit(folder)
    ends = [_LATENTS] * len(names) if endings is None else endings
    candidates = {name: _candidates(name, end, most_bytes) for name, end in zip(names, ends, strict=True)}
    files = {_key(file): file for file in held}
    chosen: dict[str, str] = {}  # keys of files, by source
    used: set[str] = set()  # the values of `chosen`
    taken = {_key(file) for file, owner in held.items() if owner is not None}
    for names_at in (2, 1, 0):  # the most specific name first, because several sources may share the other names
        for name in names:
            key = _key(candidates[name][names_at])
            owner = held.get(files.get(key, ""))
            if name not in chosen and key not in used and owner == source_name(Path(name)):
                chosen[name] = key
                used.add(key)
    stems = Counter(_key(candidates[name][0]) for name in names)
    wholes = Counter(_key(candidates[name][1]) for name in names)
    for name in names:
        if name in chosen:
            continue
        stem, whole, marked = candidates[name]
        if stems[_key(stem)] == 1 and _key(stem) not in wholes and _key(stem) not in taken:
            pick = stem
        elif (wholes[_key(whole)] == 1 or name == _key(name)) and _key(whole) not in taken:
            pick = whole
        else:
            pick = marked
        chosen[name] = _key(pick)
        files.setdefault(_key(pick), pick)
        taken.add(_key(pick))
    return [folder / files[chosen[name]] for name in names]


def _name_limit(folder: Path) -> int:
    """The most bytes of a file name in a folder. The folder need not exist."""
    for place in (folder, *folder.absolute().parents):
        if hasattr(os, "pathconf") and place.is_dir():
            try:
                limit = os.pathconf(place, "PC_NAME_MAX")
            except (OSError, ValueError):
                break
            return limit if _LEAST_NAME_BYTES <= limit < _MOST_NAME_BYTES else _MOST_NAME_BYTES
    return _MOST_NAME_BYTES


def _candidates(name: str, ending: str, most_bytes: int) -> tuple[str, str, str]:
    """The possible outputs of a source: by its stem, by its whole name, and by its name and its hash."""
    mark = sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    marked = f"-{mark}{ending}"
    cut = _cut(name, most_bytes - len(marked)) + marked
    stem, whole = f"{Path(name).stem}{ending}", f"{name}{ending}"
    return tuple(one if _bytes(one) <= most_bytes else cut for one in (stem, whole, cut))  # type: ignore[return-value]


def _cut(name: str, most_bytes: int) -> str:
    """The longest beginning of a name that has at most `most_bytes` bytes."""
    if _bytes(name) <= most_bytes:
        return name
    while _bytes(name) > most_bytes:
        name = name[: -max(1, (_bytes(name) - most_bytes) // 4)]
    return name


def _bytes(name: str) -> int:
    return len(name.encode("utf-8", "surrogateescape"))


def _key(name: str) -> str:
    """A key that is equal for names that a file system may treat as equal: without case, in Unicode's composed form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
