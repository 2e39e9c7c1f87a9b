"""The record of an encode in its latents file: the source and the settings. A rerun compares them with its own."""

import dataclasses
import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..errors import MediaError
from ..system.hashing import sha256_of

__all__ = ["EncodeRecord", "EncodeSettings", "Source", "source_name"]


@dataclass(frozen=True)
class Source:
    """The picture, clip or array that was encoded. All values are text that is compared and never parsed.

    Attributes:
        source_name: the file name without its folder.
        source_bytes: the size in bytes. None for a folder of pictures.
        source_mtime_ns: when the file was last changed, in nanoseconds since 1970. None for a folder of pictures.
        source_sha256: the hex SHA-256 of the content. None for a folder of pictures.
    """

    source_name: str
    source_bytes: str | None = None
    source_mtime_ns: str | None = None
    source_sha256: str | None = None

    @classmethod
    def of(cls, path: Path) -> "Source":
        """The source at `path`. A file is read once for its hash. A folder or a missing file has only its name.

        Raises:
            MediaError: the file cannot be read.
        """
        name = source_name(path)
        if not path.is_file():
            return cls(name)
        try:
            found = path.stat()
            return cls(name, str(found.st_size), str(found.st_mtime_ns), sha256_of(path))
        except OSError as error:
            raise MediaError(f"{path} cannot be read ({error.strerror}): check its name and permissions") from error

    def is_unchanged(self, path: Path) -> bool:
        """Whether `path` still has the same content. The file is read only if its time of change differs.

        Raises:
            MediaError: the file cannot be read.
        """
        try:
            found = path.stat()
            if self.source_bytes != str(found.st_size):
                return False
            return self.source_mtime_ns == str(found.st_mtime_ns) or self.source_sha256 == sha256_of(path)
        except OSError as error:
            raise MediaError(f"{path} cannot be read ({error.strerror}): check its name and permissions") from error


@dataclass(frozen=True)
class EncodeSettings:
    """The settings that change the numbers of a latents file. All values are text.

    Attributes:
        draw: "mean", or "seed N".
        scaled: "true" for diffusion latents, "false" for model latents.
        encoder: the hex SHA-256 of the config and the encoder's weights.
        dtype: the precision of the computation.
        tiles: the approximate tiles that were enabled. None if none were.
        background: the colour behind transparent pixels, "#rrggbb". None for white.
        colour_matrix: the YUV matrix that was given for a clip. None if none was.
        origin: the origin whose form the latents have. None in files of earlier versions, which have one that `scaled`
            names.
    """

    draw: str
    scaled: str
    encoder: str
    dtype: str
    tiles: str | None = None
    background: str | None = None
    colour_matrix: str | None = None
    origin: str | None = None

    def __post_init__(self) -> None:
        if self.origin is None:
            object.__setattr__(self, "origin", "diffusion" if self.scaled == "true" else "model")

    def differences(self, other: "EncodeSettings") -> list[str]:
        """The settings that differ, by the names that the command line has for them."""
        by_name = {self.origin, other.origin} - {"model", "diffusion"}
        names = {
            "draw": "--sample or --seed",
            "origin": "--to" if by_name else "--scaled",
            "encoder": "the bundle",
            "dtype": "--dtype",
            "tiles": "--tile",
            "background": "--background",
            "colour_matrix": "--colour-matrix",
        }
        return [name for field, name in names.items() if getattr(self, field) != getattr(other, field)]


_Part = TypeVar("_Part", Source, EncodeSettings)


@dataclass(frozen=True)
class EncodeRecord:
    """A source and the settings of its encode."""

    source: Source
    settings: EncodeSettings

    def to_metadata(self) -> dict[str, str]:
        """The fields as the metadata of a latents file. Fields that are None are left out."""
        values = dataclasses.asdict(self.source) | dataclasses.asdict(self.settings)
        return {key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "EncodeRecord | None":
        """Read the record from the metadata of a latents file. None if it has none: earlier versions wrote none."""
        if not {"source_name", "draw", "scaled", "encoder", "dtype"} <= metadata.keys():
            return None
        return cls(_from(Source, metadata), _from(EncodeSettings, metadata))


def source_name(path: Path) -> str:
    """The name of a file or folder without its parent folder, in Unicode's composed form (NFC).

    File systems spell the same name in several forms. The composed form is the same everywhere. Bytes that are not
    valid text become escapes.
    """
    name = Path(os.path.abspath(path)).name  # noqa: PTH100 # Path.resolve would give the name of a link's target
    return os.fsencode(unicodedata.normalize("NFC", name)).decode("utf-8", "backslashreplace")


def _from(kind: type[_Part], metadata: Mapping[str, str]) -> _Part:
    return kind(**{field.name: metadata.get(field.name) for field in dataclasses.fields(kind)})  # type: ignore[arg-type]
