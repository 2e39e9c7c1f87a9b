"""The hidden names of outputs that are not complete yet."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..process_identity import host_mark

__all__ = ["PartialName", "is_partial"]

_MOST_STEM_BYTES = 64  # of the 255 bytes that most file systems take; the rest of the name has at most 45
_KEPT_STEM_BYTES = 48
_MOST_ENDING = 12  # characters; no format has a longer ending
_MARK = ".mark"
# Earlier versions had eight hex digits. Endings of marks and of replaced folders may follow.
_PARTIAL = re.compile(r"\..+\.(?:[0-9a-f]{8}|[0-9a-f]{12})\.partial(?:\.|$)", re.DOTALL)
_CONTENT = re.compile(r"\.(?P<stem>.+)\.(?P<token>[0-9a-f]{12})\.partial(?P<ending>\.[^.]{1,11})?", re.DOTALL)


@dataclass(frozen=True)
class PartialName:
    """The names in the folder of an output while a process writes it.

    Libraries choose the format by the ending, so it stays last. The names are hidden, so that no listing of a folder
    takes the file for a frame. They have at most 110 bytes, also if the name of the output has 255.

    Attributes:
        stem: the name of the output without its ending. A long one is cut, and its hash is added.
        ending: the ending of the output, or "".
        token: twelve hex digits. The first six are those of the machine, the others are random.
    """

    stem: str
    ending: str
    token: str

    @classmethod
    def fresh(cls, path: Path) -> Self:
        """A free name for the output `path`."""
        return cls(*_key(path), host_mark() + os.urandom(3).hex())

    @classmethod
    def of_mark(cls, name: str) -> Self | None:
        """The names that belong to a mark, by the name of the mark. None if the name is not that of a mark."""
        return cls.of_content(name.removesuffix(_MARK)) if name.endswith(_MARK) else None

    @classmethod
    def of_content(cls, name: str) -> Self | None:
        """The names that belong to an unfinished file or folder, by its own name. None for any other name."""
        found = _CONTENT.fullmatch(name)
        return None if found is None else cls(found["stem"], found["ending"] or "", found["token"])

    def belongs_to(self, path: Path) -> bool:
        """Whether these are names for the output `path`."""
        return (self.stem, self.ending) == _key(path)

    @property
    def is_of_this_host(self) -> bool:
        """Whether a process of this machine made the name, since the machine started."""
        return self.token.startswith(host_mark())

    @property
    def content(self) -> str:
        """The name of the unfinished file or folder."""
        return f".{self.stem}.{self.token}.partial{self.ending}"

    @property
    def mark(self) -> str:
        """The name of the file that says which process writes."""
        return self.content + _MARK

    @property
    def replaced(self) -> str:
        """The name of the folder with the earlier content of a folder that is filled again."""
        return self.content + ".old"


def is_partial(path: Path) -> bool:
    """Whether `path` is the remainder of an output whose process was killed while it wrote."""
    return _PARTIAL.match(path.name) is not None


def _key(path: Path) -> tuple[str, str]:
    """The stem and the ending in the hidden names of an output."""
    if not path.name:  # the current folder
        path = path.absolute()
    stem, ending = path.stem or "output", path.suffix
    if len(ending) > _MOST_ENDING or not os.fsencode(ending).isascii():
        stem, ending = path.name, ""
    whole = os.fsencode(stem)
    if len(whole) > _MOST_STEM_BYTES:
        stem = f"{whole[:_KEPT_STEM_BYTES].decode('utf-8', 'ignore')}~{hashlib.sha256(whole).hexdigest()[:12]}"
    return stem, ending
