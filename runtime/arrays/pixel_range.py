"""Samples whose values are those of another range: 0 to 255, or 0 to 1, where -1 to 1 is wanted."""

import logging
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ...tiling.argument_names import argument
from ..errors import InputError

__all__ = ["check_pixel_range"]

_LOG = logging.getLogger(__name__)

# A sample may leave [-1, 1] a little, because a decoder does not clip. With no negative value and one above this, it is
# a picture in 0 to 255.
_MOST_OF_A_SAMPLE = 2.0
# A picture in 0 to 1 has nearly black and nearly white pixels, and a mean in between. In [-1, 1] these numbers would be
# a picture whose darkest pixel is middle gray, whose brightest is white, and that is not mostly white.
_DARK, _BRIGHT, _MOST_MEAN = 0.1, 0.75, 0.75


def check_pixel_range(
    sample: NDArray[np.float32], values: tuple[float, float] | None, *, whole: bool = True, can_skip: bool = True
) -> None:
    """Refuse a sample that lies in 0..255 or 0..1.

    Numbers in 0..1 can be a bright picture in [-1, 1]. They are refused if they reach from nearly 0 to nearly 1 with a
    mean below 0.75, and otherwise a warning is logged once.

    Args:
        sample: a finite float32 sample (B, C, ...) on the host.
        values: its least and greatest value. None checks nothing.
        whole: whether the sample is everything that is encoded. The chunks of a stream may be bright, so they are only
            compared with 0..255.
        can_skip: whether the user can give `check_range=False`, which the message then names.

    Raises:
        InputError: the sample is in another range. The message has the conversion.
    """
    if values is None:
        return
    low, high = values
    if low < 0 or low == high:
        return
    if high > _MOST_OF_A_SAMPLE:
        raise InputError(
            f"sample: the values go from {low:.4g} to {high:.4g}, and a sample is in [-1, 1]: convert it with "
            f"x / 127.5 - 1, or give the pixels as uint8 (B, H, W, C) or (B, T, H, W, C)"
        )
    if not whole or high > 1:
        return
    if low <= _DARK and high >= _BRIGHT and float(sample.mean(dtype=np.float64)) < _MOST_MEAN:
        remedy = f" (or give {argument('check_range', False)} if it is that bright)" if can_skip else ""
        raise InputError(
            f"sample: the values go from {low:.4g} to {high:.4g}, which is the range of a picture in 0..1, and a "
            f"sample is in [-1, 1]: convert it with x * 2 - 1{remedy}"
        )
    _warn_once()


@cache
def _warn_once() -> None:
    _LOG.warning(
        "a sample without a value below 0 was encoded: samples are in [-1, 1], so convert pictures in 0..1 with "
        "x * 2 - 1 (this is logged once)"
    )
