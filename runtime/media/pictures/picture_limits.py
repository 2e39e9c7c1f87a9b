"""The limits of the picture formats that are written, to check before a picture is made."""

from pathlib import Path

from ...errors import MediaError, OutputError
from ...extras import require

__all__ = ["check_picture_format", "check_picture_size"]

_MOST_SIDE = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383}  # pixels; libjpeg's limit is below that of the format
_FEATURES = {".png": "zlib", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp"}  # Pillow's names of optional libraries


def check_picture_size(path: Path, height: int, width: int) -> None:
    """Refuse a picture file that cannot hold a size in pixels.

    Args:
        path: the picture file. Its ending chooses the format.
        height: in pixels.
        width: in pixels.

    Raises:
        OutputError: the format has a smaller limit.
    """
    most = _MOST_SIDE.get(path.suffix.lower())
    if most is not None and max(height, width) > most:
        other = "JPEG (.jpg) or PNG (.png)" if max(height, width) <= _MOST_SIDE[".jpg"] else "PNG (.png)"
        raise OutputError(
            f"cannot write {path.name}: the picture has {height}x{width} pixels (height x width) and "
            f"{path.suffix.lower()} files have at most {most} per side: write {other} instead"
        )


def check_picture_format(path: Path) -> None:
    """Refuse a picture file whose format the installed Pillow cannot write.

    Raises:
        MediaError: Pillow was built without the library for it.
        MissingExtra: Pillow is not installed.
    """
    ending = path.suffix.lower()
    features = require("PIL.features", extra="media")
    if ending in _FEATURES and not features.check(_FEATURES[ending]):
        raise MediaError(f"the installed Pillow cannot write {ending} files: write another format, such as .npy")
