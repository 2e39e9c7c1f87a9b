"""Plans and blending for arrays larger than an engine takes at once. NumPy alone.

So far this is only the door: the error root that every layer shares.
"""

from .errors import LatentRTError

__all__ = ["LatentRTError"]
