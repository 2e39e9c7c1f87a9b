"""The size of a picture or clip before padding. A latents file states it, and it must agree with the latents."""

import logging
from collections.abc import Sequence
from pathlib import Path

from ..arrays.grid import Grid
from ..media.latents_file import LatentsFile

__all__ = ["original_size"]

_log = logging.getLogger(__name__)


def original_size(content: LatentsFile, grid: Grid, cells: Sequence[int], source: Path) -> tuple[int, ...] | None:
    """The size to crop a decoded sample to.

    Other programs upscale, join and crop latents without changing the metadata. So each axis is checked separately: the
    stated length counts if, after padding, it equals the length that the latents decode to. Otherwise the axis is not
    cropped, and one warning names both sizes.

    Args:
        content: the content of the latents file.
        grid: the model's grid.
        cells: the size of the latents.
        source: the latents file, for the warning.

    Returns:
        (H, W) or (T, H, W), or None if the sample is not cropped.
    """
    whole = grid.sample_size(cells)
    names = ("frames", "height", "width") if grid.video else ("height", "width")
    stated = [getattr(content, name) for name in names]
    known = [
        length if stated_length is None else stated_length for stated_length, length in zip(stated, whole, strict=True)
    ]
    padded = grid.padded_size(known)
    wrong = [name for name, one, length in zip(names, padded, whole, strict=True) if one != length]
    wrong = [name for name in wrong if getattr(content, name) is not None]
    if wrong:
        _log.warning(
            "%s: its metadata says that the original had %s, but its latents decode to %s: this metadata is ignored, "
            "and the result is not cropped there",
            source,
            _text(names, known, wrong),
            _text(names, whole, wrong),
        )
    size = tuple(length if name in wrong else one for name, one, length in zip(names, known, whole, strict=True))
    return None if size == whole else size


def _text(names: Sequence[str], size: Sequence[int], wanted: Sequence[str]) -> str:
    return ", ".join(f"{name} {length}" for name, length in zip(names, size, strict=True) if name in wanted)
