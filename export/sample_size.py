"""Translates the size of a picture or clip from the form of the command line to the form of models."""

from collections.abc import Sequence

from ..runtime.arrays.grid import Grid
from ..runtime.errors import InputError

__all__ = ["sample_size"]


def sample_size(size: Sequence[int], family: str, grid: Grid) -> tuple[int, ...]:
    """Translate a value of --size to the size of a sample, padded to the model's grid.

    Args:
        size: (H, W) or (H, W, T), in pixels and frames.
        family: the model's family, for the message.
        grid: the model's grid.

    Returns:
        (H, W) or (T, H, W), in pixels and frames.

    Raises:
        InputError: the size has frames for an image model, or no frames for a video model.
    """
    if len(size) != (3 if grid.video else 2):
        wanted = "HEIGHTxWIDTHxFRAMES" if grid.video else "HEIGHTxWIDTH"
        raise InputError(f"--size: {family} takes {wanted}, got {'x'.join(map(str, size))}")
    return tuple(grid.padded_size((size[2], *size[:2]) if grid.video else size))
