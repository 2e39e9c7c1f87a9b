"""Translates the values of --tile and --overlap to arguments of `enable_tiling`."""

from typing import Any

from ...runtime.autoencoders.autoencoder import Autoencoder
from ...runtime.errors import InputError

__all__ = ["TILED_AXES", "tiling_arguments"]

TILED_AXES = ("height", "width", "num_frames")


def tiling_arguments(vae: Autoencoder, sizes: tuple[int, ...], overlaps: tuple[int, ...], blend: str) -> dict[str, Any]:
    """Return the arguments of `vae.enable_tiling` for tiles of given sizes.

    Args:
        vae: the autoencoder that will run in tiles.
        sizes: height, width and, for clips, frames of a tile, in pixels and frames; () takes the default of the blend.
        overlaps: overlap of tiles along the same axes; a single number is for height and width.
        blend: "linear", "diffusers" or "ltx2".

    Raises:
        InputError: there are more sizes than the model has axes, or tiles cannot overlap by such a length.
    """
    for name, given in (("--tile", sizes), ("--overlap", overlaps)):
        if len(given) > (3 if vae.video else 2):
            raise InputError(f"{name}: {vae.family} takes HEIGHTxWIDTH, got {'x'.join(map(str, given))}")
    if len(overlaps) == 1:
        overlaps = overlaps * 2
    _check_overlaps(vae, sizes, overlaps)
    if not overlaps and blend == "diffusers":
        # diffusers' default strides fit only its default tiles. These are the overlaps of its defaults: 64 pixels and
        # 8 frames for video, and a quarter of a tile for images.
        overlaps = (64, 64, 8) if vae.video else tuple(size // 4 for size in sizes)
        ratio = vae.grid.spatial
        for size, common in zip(sizes[:2], overlaps, strict=False):
            if common % ratio and not size % ratio:
                raise InputError(
                    f"--tile: the blend diffusers overlaps tiles by a quarter, and a quarter of {size} pixels is no "
                    f"multiple of {ratio}: give --overlap too, or a multiple of {4 * ratio}"
                )
    arguments: dict[str, Any] = {"blend": blend}
    for axis, size in zip(TILED_AXES, sizes, strict=False):
        arguments[f"tile_sample_min_{axis}"] = size
    for axis, size, common in zip(TILED_AXES, sizes, overlaps, strict=False):
        arguments[f"tile_sample_stride_{axis}"] = size - common
    if blend == "diffusers" and vae.video:
        arguments["framewise"] = len(sizes) == 3
    return arguments


def _check_overlaps(vae: Autoencoder, sizes: tuple[int, ...], overlaps: tuple[int, ...]) -> None:
    """Refuse overlaps here, because `enable_tiling` takes strides and its messages would name these."""
    ratios = (vae.grid.spatial, vae.grid.spatial, vae.grid.temporal)
    for axis, size, common, ratio in zip(TILED_AXES, sizes, overlaps, ratios, strict=False):
        if common >= size:
            raise InputError(f"--overlap: {common} is not below the tile's {size} along {axis.removeprefix('num_')}")
        if axis != "num_frames" and common % ratio and not size % ratio:
            below = common // ratio * ratio
            raise InputError(
                f"--overlap: wanted a multiple of {ratio} (a latent cell) along {axis}, got {common}; the nearest are "
                f"{below} or {below + ratio}"
            )
        if axis == "num_frames" and size - common < ratio:
            most = f"at most {size - ratio}" if size > ratio else f"0, or a tile of more than {ratio} frames"
            raise InputError(f"--overlap: wanted {most} in frames, so that tiles advance, got {common}")
