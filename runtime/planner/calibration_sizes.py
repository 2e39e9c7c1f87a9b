"""Smaller sizes that stand for a larger one: at which latents a calibration measures.

An engine's allocator may round to powers of two (ONNX Runtime's own arenas do; the one that its sessions share here
does not), so that memory over size is no straight line but a sawtooth, which repeats with every doubling of the size.
A size is therefore stood for by sizes that are a power of two smaller, of which the memory lies on one line whatever
the allocator (docs/planner.md shows it).
"""

import math
from collections.abc import Iterator, Sequence

from ..arrays.grid import Grid
from ..calls.workload import volume

__all__ = ["calibration_sizes"]

_MOST_FRAMES = 9  # latent frames of a clip that is stood for
_LEAST_CELLS = {False: 64, True: 4}  # of height and width, of pictures and of clips
_MOST_ERROR = 0.04  # by how much a size may be off the power of two, in powers of two


def calibration_sizes(
    grid: Grid, cells: Sequence[int], minimum: int, *, whole_clip: bool = False
) -> tuple[tuple[int, ...], ...]:
    """Latents' sizes that stand for `cells`, smallest first; the last one is `cells` themselves. `minimum`: the fewest
    cells along height or width. `whole_clip`: as many frames as there are."""
    wanted = volume(grid, cells)
    frames = cells[:1] if whole_clip else [min(frames, _MOST_FRAMES) for frames in cells[:-2]]
    if not grid.video:
        frames = []
    per_cell = volume(grid, (*frames, 1, 1))
    found = []
    for halvings in range(1, 40):
        area = wanted / 2**halvings / per_cell
        if area < _LEAST_CELLS[grid.video] * 2 ** (-_MOST_ERROR):
            break
        best = min(_rectangles(area, minimum, cells[-2] / cells[-1]), default=None)
        if best is not None and best[0] <= _MOST_ERROR:
            found.append((*frames, *best[2]))
    return (*found[::-1], tuple(cells))


def _rectangles(area: float, minimum: int, aspect: float) -> Iterator[tuple[float, float, tuple[int, int]]]:
    """Rectangles of about that area: how far off it in powers of two (to the nearest hundredth), how far off the
    aspect, and height and width."""
    for height in range(minimum, math.isqrt(int(4 * area)) + 1):
        width = max(round(area / height), minimum)
        bent = abs(math.log2(height / width / aspect))
        if bent <= 2:
            yield round(abs(math.log2(height * width / area)), 2), bent, (height, width)
