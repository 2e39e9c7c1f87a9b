"""Convolving a doubled picture, whose rows and columns are repeated, without doubling it."""

import numpy as np

__all__ = ["PHASE_TAPS"]

PHASE_TAPS = (np.array([[1, 0, 0], [0, 1, 1]], np.float32), np.array([[1, 1, 0], [0, 0, 1]], np.float32))
"""How the taps of a 3x3 window fall on the small picture, for even rows of the result and for odd rows, each (2, 3).

A window sees two rows of the small picture. [p, k] is the share of its tap k that falls on the p-th of these rows. An
even row 2i sees rows i - 1 and i. An odd row 2i + 1 sees rows i and i + 1. Columns are alike, so PHASE_TAPS[a] @ weight
@ PHASE_TAPS[b].T is the 2x2 kernel for rows of kind a and columns of kind b."""
