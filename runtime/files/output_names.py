"""Names for the latents files of a folder's files. They are unique, and a rerun finds them again."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from ..media.latents_origin import source_name

__all__ = ["output_names"]

_ENDING = ".safetensors"


def output_names(sources: Sequence[Path], folder: Path, held: Mapping[str, str | None]) -> list[Path]:
    """The latents file of each source. No two sources have the same file, even if the file system ignores case.

    A source keeps the file that it has already, even if there are new sources. Any other source is named by its stem
    (`a` for `a.png`), unless another source has that stem or another source's file has that name. Then it is named by
    its whole name, or else by its whole name and eight digits of its hash (`a.PNG` if there is `a.png`).

    Args:
        sources: the pictures or clips.
        folder: the folder of the latents files.
        held: the names of the latents files in `folder`, with the source name that each records. None if it records
            none.
    """
    names = [path.name for path in sources]
    files = {_key(file): file for file in held}
    chosen: dict[str, str] = {}  # keys of files, by source
    taken = {_key(file) for file, owner in held.items() if owner is not None}
    for names_at in (2, 1, 0):  # the most specific name first, because several sources may share the other names
        for name in names:
            key = _key(_candidates(name)[names_at])
            owner = held.get(files.get(key, ""))
            if name not in chosen and key not in chosen.values() and owner == source_name(Path(name)):
                chosen[name] = key
    stems = Counter(_key(Path(name).stem) for name in names)
    wholes = Counter(map(_key, names))
    for name in names:
        if name in chosen:
            continue
        stem, whole, marked = _candidates(name)
        own_stem = _key(Path(name).stem)
        if stems[own_stem] == 1 and own_stem not in wholes and _key(stem) not in taken:
            pick = stem
        elif (wholes[_key(name)] == 1 or name == _key(name)) and _key(whole) not in taken:
            pick = whole
        else:
            pick = marked
        chosen[name] = _key(pick)
        files.setdefault(_key(pick), pick)
        taken.add(_key(pick))
    return [folder / files[chosen[name]] for name in names]


def _candidates(name: str) -> tuple[str, str, str]:
    """The possible latents files of a source: by its stem, by its whole name, and by its name and its hash."""
    mark = sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{Path(name).stem}{_ENDING}", f"{name}{_ENDING}", f"{name}-{mark}{_ENDING}"


def _key(name: str) -> str:
    """A key that is equal for names that a file system may treat as equal: without case, in Unicode's composed form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
