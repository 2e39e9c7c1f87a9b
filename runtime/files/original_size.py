"""The size before padding, as a latents file states it: a hint that has to agree with the latents."""

import logging
from collections.abc import Sequence
from pathlib import Path

from ..arrays.grid import Grid
from ..media.latents_file import LatentsFile

__all__ = ["original_size"]

_log = logging.getLogger(__name__)


def original_size(content: LatentsFile, grid: Grid, cells: Sequence[int], source: Path) -> tuple[int, ...] | None:
    """The size (H, W) or (T, H, W) to cut a decoded sample to, or None where it stays as it is.

    Other tools upscale, join and crop latents and keep the metadata. So each axis is taken by itself: the stated length
    counts if padding it gives what the latents (`cells`) decode to. Otherwise the axis keeps its whole length, and one
    warning names both sizes. A frame rate does not depend on the sizes, and stays.
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
            "%s: its metadata says that the original had %s, but its latents decode to %s: the metadata is ignored "
            "there, and nothing is cut off",
            source,
            _text(names, known, wrong),
            _text(names, whole, wrong),
        )
    size = tuple(length if name in wrong else one for name, one, length in zip(names, known, whole, strict=True))
    return None if size == whole else size


def _text(names: Sequence[str], size: Sequence[int], wanted: Sequence[str]) -> str:
    return ", ".join(f"{name} {length}" for name, length in zip(names, size, strict=True) if name in wanted)
