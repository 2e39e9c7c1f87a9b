"""The size of a picture or clip, as the command line takes it and as models do."""

from collections.abc import Sequence

from ..runtime.arrays.grid import Grid
from ..runtime.errors import InputError

__all__ = ["sample_size"]


def sample_size(size: Sequence[int], family: str, grid: Grid) -> tuple[int, ...]:
    """What --size says, (H, W) or (H, W, T) in pixels and frames, as a sample's size, (H, W) or (T, H, W), padded to
    the model's grid.

    Raises:
        InputError: frames for an image model, or none for a video model.
    """
    if len(size) != (3 if grid.video else 2):
        wanted = "HxWxT" if grid.video else "HxW"
        raise InputError(f"--size: {family} takes {wanted}, got {'x'.join(map(str, size))}")
    return tuple(grid.padded_size((size[2], *size[:2]) if grid.video else size))
