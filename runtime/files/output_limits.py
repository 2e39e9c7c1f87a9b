"""The limits of an output's format and of the disk, checked with the final size before anything is decoded."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

from ..autoencoders.autoencoder import Autoencoder
from ..media.pictures.picture_file import PICTURE_ENDINGS
from ..media.pictures.picture_limits import check_picture_format, check_picture_size
from ..system.outputs.free_space import check_free_space

__all__ = ["check_latents_space", "check_output_limits"]

_FLOAT_BYTES = 4
_MOST_DEFLATE = 1032  # pixels' bytes that one byte of a PNG file can stand for; no picture compresses better


def check_output_limits(output: Path, ending: str, shape: Sequence[int]) -> None:
    """Refuse an output whose format cannot hold a decoded sample, or that the disk certainly cannot hold.

    The encoder of a video file checks its own limits when `ClipWriter.begin` opens it.

    Args:
        output: the output.
        ending: the ending that chooses the format. "" for a folder of PNG files.
        shape: the shape of the sample, (B, C, H, W) or (B, C, T, H, W), in pixels.

    Raises:
        OutputError: a side is too long for the format, or the disk has too little free space.
        MediaError: the installed Pillow cannot write the format.
    """
    if ending == ".npy":
        check_free_space(output, prod(shape) * _FLOAT_BYTES)
    elif ending == "":
        check_free_space(output, prod(shape) // _MOST_DEFLATE)
    elif ending in PICTURE_ENDINGS:
        check_picture_format(output)
        check_picture_size(output, *shape[-2:])


def check_latents_space(output: Path, vae: Autoencoder, size: Sequence[int]) -> None:
    """Refuse a latents file that the disk certainly cannot hold, before the encoder runs.

    Args:
        output: the latents file.
        vae: the encoding model.
        size: the size of the sample on the model's grid, (H, W) or (T, H, W), in pixels and frames.

    Raises:
        OutputError: the disk has too little free space.
    """
    cells = prod(vae.grid.latent_size(size))
    check_free_space(output, cells * vae.config.latent_channels * _FLOAT_BYTES)
