"""Tiles by their sizes and overlaps, as --tile and --overlap give them, for `enable_tiling`."""

from typing import Any

from ...runtime.autoencoders.autoencoder import Autoencoder
from ...runtime.errors import InputError

__all__ = ["TILED_AXES", "tiling_arguments"]

TILED_AXES = ("height", "width", "num_frames")


def tiling_arguments(vae: Autoencoder, sizes: tuple[int, ...], overlaps: tuple[int, ...], blend: str) -> dict[str, Any]:
    """The arguments of `vae.enable_tiling` for tiles of these sizes.

    Args:
        vae: the autoencoder that will run in tiles.
        sizes: height, width and, for clips, frames of a tile, in pixels; () takes the blend's own.
        overlaps: by how much tiles overlap along the same axes; one number is for height and width.
        blend: "linear", "diffusers" or "ltx2".

    Raises:
        InputError: more sizes than the model has axes.
    """
    for name, given in (("--tile", sizes), ("--overlap", overlaps)):
        if len(given) > (3 if vae.video else 2):
            raise InputError(f"{name}: {vae.family} takes HxW, got {'x'.join(map(str, given))}")
    if len(overlaps) == 1:
        overlaps = overlaps * 2
    if not overlaps and blend == "diffusers":
        # Its default strides belong to its default tiles; 64 pixels and a quarter are the overlaps that they make.
        overlaps = (64, 64, 8) if vae.video else tuple(size // 4 for size in sizes)
    arguments: dict[str, Any] = {"blend": blend}
    for axis, size in zip(TILED_AXES, sizes, strict=False):
        arguments[f"tile_sample_min_{axis}"] = size
    for axis, size, common in zip(TILED_AXES, sizes, overlaps, strict=False):
        arguments[f"tile_sample_stride_{axis}"] = size - common
    if blend == "diffusers" and vae.video:
        arguments["framewise"] = len(sizes) == 3
    return arguments
