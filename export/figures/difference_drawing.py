"""Draws one decoded sample as several backends give it, and the differences from the first."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...runtime.arrays.pixels import to_pixels
from ...runtime.selftest.psnr import psnr
from .figure_file import new_figure, write_figure

__all__ = ["DrawnResult", "draw_differences"]

_LEAST_DIFFERENCE = 1e-9  # where the logarithmic scale of differences begins


@dataclass(frozen=True, eq=False)
class DrawnResult:
    """A decoded sample.

    Attributes:
        label: the backend and its precision.
        sample: float32 (B, C, H, W) or (B, C, T, H, W) of about [-1, 1].
    """

    label: str
    sample: NDArray[np.float32]


def draw_differences(results: Sequence[DrawnResult], path: Path, *, title: str = "") -> None:
    """Draw a row for each result but the first: the result, and its difference from the first on a logarithmic scale,
    as a map and as a histogram. Of a clip, the frame with the largest difference is drawn.

    Args:
        results: the results, at least two; the first is the one that the others are compared with.
        path: a `.png`, `.svg` or `.pdf` file. An existing file is replaced.
        title: title of the figure.

    Raises:
        OutputError: the file has another ending, or cannot be written.
        MissingExtra: matplotlib is not installed.
    """
    base, others = results[0], results[1:]
    figure = new_figure(3.2 * len(others) + 0.6)
    panels = figure.subplots(len(others), 3, squeeze=False)
    for (picture, difference, histogram), other in zip(panels, others, strict=True):
        frame = _worst_frame(base.sample, other.sample)
        shown, wanted = frame(other.sample), frame(base.sample)
        magnitude = np.abs(shown.astype(np.float64) - wanted)[0]
        picture.imshow(_as_picture(shown))
        picture.set(title=f"{other.label}: {psnr(other.sample, base.sample):.1f} dB", xticks=[], yticks=[])
        logarithm = np.log10(np.maximum(np.nan_to_num(magnitude, nan=np.inf), _LEAST_DIFFERENCE))
        logarithm = np.minimum(logarithm, 2.0)
        image = difference.imshow(logarithm.max(axis=0), cmap="magma")
        difference.set(title="largest difference of the channels, log10", xticks=[], yticks=[])
        figure.colorbar(image, ax=difference, shrink=0.85)
        histogram.hist(logarithm.reshape(-1), bins=60, color="#3b74b5")
        histogram.set(title="values by their difference", xlabel="log10 of the difference", yscale="log")
    figure.suptitle(title)
    write_figure(figure, path)


class _Frame:
    """Cuts one frame out of a clip; a picture stays as it is."""

    def __init__(self, index: int | None) -> None:
        self._index = index

    def __call__(self, sample: NDArray[np.float32]) -> NDArray[np.float32]:
        return sample[:1] if self._index is None else sample[:1, :, self._index]


def _worst_frame(base: NDArray[np.float32], other: NDArray[np.float32]) -> _Frame:
    if base.ndim == 4:
        return _Frame(None)
    error = np.square(other[:1].astype(np.float64) - base[:1]).mean(axis=(0, 1, 3, 4))
    return _Frame(int(np.nan_to_num(error, nan=np.inf).argmax()))


def _as_picture(sample: NDArray[np.float32]) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) of the first three channels; a single channel is grey."""
    channels = sample[:, :3] if sample.shape[1] >= 3 else np.repeat(sample[:, :1], 3, axis=1)
    pixels: NDArray[np.uint8] = to_pixels(np.ascontiguousarray(channels))[0]
    return pixels
