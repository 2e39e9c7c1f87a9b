"""Convolving a picture that was doubled by repeating its rows and columns, without doubling it."""

import numpy as np

__all__ = ["TAPS"]

TAPS = (np.array([[1, 0, 0], [0, 1, 1]], np.float32), np.array([[1, 1, 0], [0, 0, 1]], np.float32))
"""For even rows of the result, and for odd ones, (2, 3): a 3x3 window sees two rows of the small picture, and [p, k] is
how much of its tap k falls on the p-th of them. An even row 2i sees rows i - 1 and i; an odd one, 2i + 1, rows i and
i + 1. Columns are alike: TAPS[a] @ weight @ TAPS[b].T is the 2x2 kernel of rows of kind a and columns of kind b."""
