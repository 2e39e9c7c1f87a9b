"""The pictures and clips in a folder, and the entries that are left out, with the reasons."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MediaError
from ..media.endings import CLIP_INPUT_ENDINGS, FRAME_ENDINGS, PICTURE_INPUT_ENDINGS
from ..media.pictures.picture_file import natural_key

__all__ = ["FolderContents", "LeftOut", "unusable"]

_HIDDEN = "a hidden file"
_SYSTEM_FILES = ("desktop.ini", "thumbs.db")


@dataclass(frozen=True)
class LeftOut:
    """An entry of a folder that is not encoded.

    Attributes:
        path: the entry.
        kind: the kind of entry, by which entries are counted: "hidden", "folder", or an ending.
        reason: why it is not encoded.
    """

    path: Path
    kind: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """The file and the reason as JSON values."""
        return {"file": str(self.path), "reason": self.reason}


@dataclass(frozen=True)
class FolderContents:
    """The entries of a folder, for one kind of model, in natural order (frame2 before frame10).

    Attributes:
        folder: the folder.
        pictures: the pictures.
        clips: the clips. Image models have none.
        left_out: the other entries.
    """

    folder: Path
    pictures: tuple[Path, ...]
    clips: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]

    @classmethod
    def of(cls, folder: Path, *, video: bool) -> "FolderContents":
        """Sort the entries of a folder by their endings.

        `.gif` is a picture for image models and a clip for video models.

        Args:
            folder: the folder.
            video: whether the model is a video model.

        Raises:
            MediaError: `folder` is not a folder or cannot be listed.
        """
        try:
            entries = sorted(folder.iterdir(), key=natural_key)
        except OSError as error:
            raise MediaError(
                f"{folder} is not a folder that can be listed ({error.strerror}): give a folder"
            ) from error
        pictures, clips, left_out = [], [], []
        for entry in entries:
            ending = entry.suffix.lower()
            reason = _reason(entry, video=video)
            if reason is not None:
                left_out.append(LeftOut(entry, *reason))
            elif video and ending in CLIP_INPUT_ENDINGS:
                clips.append(entry)
            else:
                pictures.append(entry)
        return cls(folder, tuple(pictures), tuple(clips), tuple(left_out))

    def sentence(self) -> str | None:
        """A sentence that counts the entries that were left out, by kind. None if there are none."""
        if not self.left_out:
            return None
        count, every = len(self.left_out), len(self.left_out) + len(self.pictures) + len(self.clips)
        kinds = Counter(one.kind for one in self.left_out).most_common()
        text = ", ".join(f"{number} {kind}" for kind, number in kinds[:8])
        more = f", {sum(number for _, number in kinds[8:])} other" if len(kinds) > 8 else ""
        return f"{self.folder}: left out {count} of {every} entries: {text}{more}"


def unusable(entry: Path) -> tuple[str, str] | None:
    """The kind of an entry that is no input by any ending, and the reason. None if the ending decides."""
    if entry.name.startswith(".") or entry.name.lower() in _SYSTEM_FILES:
        return "hidden", _HIDDEN
    if entry.is_dir():
        return "folder", "a folder inside the folder: encode it separately"
    if not entry.is_file():
        return "not a file", "not a file, or a link to a missing file"
    return None


def _reason(entry: Path, *, video: bool) -> tuple[str, str] | None:
    """The kind of an entry that is left out, and the reason. None if it is encoded."""
    if (reason := unusable(entry)) is not None:
        return reason
    ending = entry.suffix.lower()
    if ending in (FRAME_ENDINGS if video else PICTURE_INPUT_ENDINGS) or (video and ending in CLIP_INPUT_ENDINGS):
        return None
    kind = ending if ending and len(ending) <= 12 else "without an ending"
    if ending in CLIP_INPUT_ENDINGS:
        return kind, "a clip, and the bundle holds an image model"
    if ending == ".npy":
        return kind, "an array: encode it separately"
    return kind, f"no picture{' and no clip' if video else ''} by its ending"
