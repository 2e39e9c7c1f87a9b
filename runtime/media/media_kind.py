"""Whether a file is an array, a picture or a clip: by its first bytes, and by its ending if they do not say."""

from pathlib import Path
from typing import Literal

from ..system.file_kinds import kind_of
from .endings import CLIP_INPUT_ENDINGS, FRAME_ENDINGS

__all__ = ["MediaKind", "media_kind"]

MediaKind = Literal["array", "picture", "clip"]
"""A `.npy` array, a picture (a still one or an animation, except GIF), or a clip (a video or a GIF)."""

_KINDS: dict[str, MediaKind] = {
    "npy": "array",
    **dict.fromkeys(("png", "jpeg", "tiff", "webp", "avif", "heic", "jp2", "qoi", "bmp", "psd", "jxl"), "picture"),
    **dict.fromkeys(("mp4", "matroska", "avi", "flv", "mpeg", "gif", "ogg"), "clip"),
}


def media_kind(path: Path) -> MediaKind | None:
    """The kind of a media file. None if neither its bytes nor its ending say it."""
    kind = kind_of(path)
    if kind is not None and kind.name in _KINDS:
        return _KINDS[kind.name]
    ending = path.suffix.lower()
    if ending == ".npy":
        return "array"
    if ending in FRAME_ENDINGS:
        return "picture"
    return "clip" if ending in CLIP_INPUT_ENDINGS else None
