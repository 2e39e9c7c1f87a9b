"""Where a bundle comes from: the checkpoint, its revision, its files with their hashes, and its licence."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from .graph import FileEntry

__all__ = ["SourceRecord"]

_LONGEST_TEXT = 500  # characters of a name, a revision or a licence


@dataclass(frozen=True)
class SourceRecord:
    """The checkpoint of an export. It says where the weights come from, and has no part in the bundle's digest.

    Attributes:
        name: the model on the hub ("org/name"), or the name of the folder or file.
        revision: the commit on the hub, or None for other sources.
        files: the files that the export read, with sizes and SHA-256. Names are relative to the source.
        licence: as the user or the model card states it, such as "apache-2.0", or None.
    """

    name: str
    revision: str | None = None
    files: tuple[FileEntry, ...] = ()
    licence: str | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError if a field is missing or of the wrong kind."""
        texts = values["name"], values["revision"], values["license"]
        for text in texts:
            if text is not None and (not isinstance(text, str) or len(text) > _LONGEST_TEXT):
                raise ValueError("a text of the source is of the wrong kind, or too long")
        if texts[0] is None:
            raise ValueError("the source has no name")
        return cls(texts[0], texts[1], tuple(map(FileEntry.from_json, values["files"])), texts[2])

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "revision": self.revision,
            "files": [asdict(file) for file in self.files],
            "license": self.licence,
        }
