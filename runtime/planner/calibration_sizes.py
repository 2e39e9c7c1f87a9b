"""The sizes at which a calibration measures: smaller sizes that stand for a larger one.

An engine's allocator may round to powers of two. (ONNX Runtime's own arenas do; the arena that its sessions share here
does not.) Memory over size is then a sawtooth, which repeats with every doubling of the size. So a size is measured at
sizes that are a power of two smaller: their memory lies on one line with any allocator (docs/planner.md shows it).
"""

import math
from collections.abc import Iterator, Sequence

from ..arrays.grid import Grid
from ..calls.workload import volume
from .tuning import FEWEST_CELLS, MOST_CALIBRATION_FRAMES, SIZE_TOLERANCE

__all__ = ["calibration_sizes"]


def calibration_sizes(
    grid: Grid, cells: Sequence[int], minimum: int, *, whole_clip: bool = False
) -> tuple[tuple[int, ...], ...]:
    """The sizes of latents that stand for `cells`, the smallest first. The last one is `cells`.

    Args:
        grid: the model's grid.
        cells: the wanted size, (T,) H, W.
        minimum: the fewest cells along height or width.
        whole_clip: keep all frames.
    """
    wanted = volume(grid, cells)
    frames = cells[:1] if whole_clip else [min(frames, MOST_CALIBRATION_FRAMES) for frames in cells[:-2]]
    if not grid.video:
        frames = []
    per_cell = volume(grid, (*frames, 1, 1))
    found = []
    for halvings in range(1, 40):
        area = wanted / 2**halvings / per_cell
        if area < FEWEST_CELLS[grid.video] * 2 ** (-SIZE_TOLERANCE):
            break
        best = min(_rectangles(area, minimum, cells[-2] / cells[-1]), default=None)
        if best is not None and best[0] <= SIZE_TOLERANCE:
            found.append((*frames, *best[2]))
    return (*found[::-1], tuple(cells))


def _rectangles(area: float, minimum: int, aspect: float) -> Iterator[tuple[float, float, tuple[int, int]]]:
    """Rectangles of about that area: by how much they miss the area and the aspect, in powers of two (the area to the
    nearest hundredth), and their height and width."""
    for height in range(minimum, math.isqrt(int(4 * area)) + 1):
        width = max(round(area / height), minimum)
        bent = abs(math.log2(height / width / aspect))
        if bent <= 2:
            yield round(abs(math.log2(height * width / area)), 2), bent, (height, width)
