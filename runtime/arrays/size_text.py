"""Sizes of pictures, clips and latents as text: height x width, and then frames, as the command line takes them."""

from collections.abc import Sequence

__all__ = ["size_text"]


def size_text(size: Sequence[int]) -> str:
    """A size as text, HEIGHTxWIDTH or HEIGHTxWIDTHxFRAMES.

    Args:
        size: (H, W) or (T, H, W), in pixels and frames, or in latent cells.

    >>> size_text((121, 512, 768))
    '512x768x121'
    """
    return "x".join(map(str, (*size[-2:], *size[:-2])))
