"""Pictures side by side, with labels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...runtime.extras import require

__all__ = ["side_by_side"]

Pixels = NDArray[np.uint8]
_GAP = 8  # pixels between panels
_BAR = 30  # height of the labels, in pixels
_PAPER = (250, 250, 248)
_INK = (30, 30, 30)


def side_by_side(panels: Sequence[tuple[str, Pixels]]) -> Pixels:
    """Join pictures of one height to one picture, each under its label.

    Args:
        panels: pairs of a label and a picture, uint8 (H, W, 3).

    Returns:
        The picture, uint8 (H, W, 3); H and W are even.
    """
    image_module, draw_module = require("PIL.Image", extra="media"), require("PIL.ImageDraw", extra="media")
    font = require("PIL.ImageFont", extra="media").load_default(size=15)
    height = max(pixels.shape[0] for _, pixels in panels) + _BAR + _GAP
    width = sum(pixels.shape[1] + _GAP for _, pixels in panels) + _GAP
    sheet = image_module.new("RGB", (width + width % 2, height + height % 2), _PAPER)
    draw = draw_module.Draw(sheet)
    left = _GAP
    for label, pixels in panels:
        sheet.paste(image_module.fromarray(pixels), (left, _BAR))
        draw.text((left, 6), label, fill=_INK, font=font)
        left += pixels.shape[1] + _GAP
    return np.array(sheet, dtype=np.uint8)
