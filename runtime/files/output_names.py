"""Names of latents files for the files of a folder: one for each, found again by a rerun."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from ..media.latents_origin import source_name

__all__ = ["output_names"]

_ENDING = ".safetensors"


def output_names(sources: Sequence[Path], folder: Path, held: Mapping[str, str | None]) -> list[Path]:
    """The latents file in `folder` of each source; no two share one, also where file systems ignore case.

    `held`: the latents files in `folder` by name, with the source name that each records (None: it records none).

    A source that has a file there keeps it, also if other sources came to the folder since. Another one gets its stem
    (`a` of `a.png`) if no other source has that stem and no other source's file has that name; else its whole name;
    else its whole name and eight digits of its hash (`a.png` and `a.PNG`, the latter's with digits).
    """
    names = [path.name for path in sources]
    files = {_key(file): file for file in held}
    chosen: dict[str, str] = {}  # keys of files, by source
    taken = {_key(file) for file, owner in held.items() if owner is not None}
    for names_at in (2, 1, 0):  # the most specific first: names of one spelling may share the others
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
    mark = sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{Path(name).stem}{_ENDING}", f"{name}{_ENDING}", f"{name}-{mark}{_ENDING}"


def _key(name: str) -> str:
    """The same for names that some file system takes for one: without case, in Unicode's composed form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
