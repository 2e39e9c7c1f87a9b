"""The arguments of `enable_tiling`, checked and turned into settings."""

from collections.abc import Sequence
from dataclasses import replace

from ...tiling import Axis
from ...tiling.argument_names import argument
from ..arrays.grid import Grid
from ..config.model_config import ModelConfig
from ..errors import InputError
from .tiling_settings import AxisTiles, TilingSettings

__all__ = ["image_tiling", "video_tiling"]

# Sample pixels and frames: (size, stride) along T, H, W. The linear ones come from benchmarks/tiling.md.
_VIDEO_DEFAULTS = {
    "linear": ((72, 56), (512, 384), (512, 384)),
    "diffusers": ((16, 8), (512, 448), (512, 448)),  # AutoencoderKLLTX2Video.__init__ of diffusers 0.42
    "ltx2": ((80, 56), (768, 704), (768, 704)),  # TilingConfig.default() of the LTX-2 repository: 80/24, 768/64
}
_OVERLAP_FACTOR = 0.25  # AutoencoderKL's default in diffusers, and by the same table ours
_LEAST_IMAGE_TILE = 512  # linear: configs that leave sample_size out say 32


def image_tiling(
    config: ModelConfig,
    grid: Grid,
    *,
    blend: str,
    sizes: Sequence[int | None],
    strides: Sequence[int | None],
    tile_sample_min_size: int | None,
    tile_overlap_factor: float | None,
    tiles_per_call: int,
) -> TilingSettings:
    """The settings of an image model; `sizes` and `strides` are of height and width, in pixels.

    Raises:
        InputError: an illegal value; the message names the nearest legal ones.
    """
    _check_common(blend, ("linear", "diffusers"), tiles_per_call)
    if (tile_sample_min_size is not None or tile_overlap_factor is not None) and any((*sizes, *strides)):
        raise InputError(
            "enable_tiling: give tile_sample_min_size and tile_overlap_factor, or heights and widths, not both"
        )
    axes, ratio, exact = grid.axes_for("decode"), grid.spatial, blend == "diffusers"
    trained = config.trained_size or _LEAST_IMAGE_TILE
    if not exact:
        trained = max(trained, _LEAST_IMAGE_TILE) // ratio * ratio
    size = tile_sample_min_size
    if size is not None:
        cells_of(axes[0], "tile_sample_min_size", size)
    elif exact and trained % ratio and not all(sizes):
        raise InputError(
            f"enable_tiling: the config's sample_size {trained}, diffusers' default tile, is no multiple of {ratio}; "
            f"give {argument('tile_sample_min_size')}"
        )
    if size is not None or tile_overlap_factor is not None:
        factor = _OVERLAP_FACTOR if tile_overlap_factor is None else tile_overlap_factor
        sizes = (size or trained,) * 2
        strides = (overlap_factor_stride(size or trained, factor, ratio, exact=exact),) * 2
    stride = overlap_factor_stride(trained, _OVERLAP_FACTOR, ratio, exact=exact and not any((*sizes, *strides)))
    default = AxisTiles(max(trained // ratio, 1), max(stride // ratio, 1), even=not exact)
    tiles = _tiles(axes, sizes, strides, (default, default), adapt=not exact)
    return TilingSettings(blend, tiles, tiles_per_call=tiles_per_call)


def video_tiling(
    grid: Grid,
    *,
    blend: str,
    sizes: Sequence[int | None],
    strides: Sequence[int | None],
    framewise: bool | None,
    compat_shift: bool,
    tiles_per_call: int,
) -> TilingSettings:
    """The settings of a video model; `sizes` and `strides` are of time, height and width, in frames and pixels.

    Raises:
        InputError: an illegal value; the message names the nearest legal ones.
    """
    _check_common(blend, tuple(_VIDEO_DEFAULTS), tiles_per_call)
    if blend != "diffusers" and (framewise is not None or compat_shift):
        raise InputError(f'enable_tiling: framewise and compat_shift are for blend="diffusers", got blend={blend!r}')
    if compat_shift and not framewise:
        raise InputError("enable_tiling: compat_shift shifts the frames of temporal tiles: give framewise=True with it")
    axes = grid.axes_for("decode")
    if compat_shift:
        for name, value in (("min", sizes[0]), ("stride", strides[0])):
            cells_of(replace(axes[0], leading=False), f"tile_sample_{name}_num_frames", value or axes[0].ratio)
    defaults = [
        AxisTiles(max(size // axis.ratio, 1) + axis.leading, max(stride // axis.ratio, 1), even=blend == "linear")
        for axis, (size, stride) in zip(axes, _VIDEO_DEFAULTS[blend], strict=True)
    ]
    tiles = _tiles(axes, sizes, strides, defaults, adapt=blend != "diffusers")
    return TilingSettings(blend, tiles, blend != "diffusers" or bool(framewise), compat_shift, tiles_per_call)


def _check_common(blend: str, blends: Sequence[str], tiles_per_call: int) -> None:
    if blend not in blends:
        raise InputError(f"{argument('blend')}: wanted one of {', '.join(blends)}, got {blend!r}")
    if isinstance(tiles_per_call, bool) or not isinstance(tiles_per_call, int) or tiles_per_call < 1:
        raise InputError(f"tiles_per_call: wanted a whole number of at least 1, got {tiles_per_call!r}")


def _tiles(
    axes: Sequence[Axis],
    sizes: Sequence[int | None],
    strides: Sequence[int | None],
    defaults: Sequence[AxisTiles],
    *,
    adapt: bool,
) -> tuple[AxisTiles, ...]:
    every = zip(axes, sizes, strides, defaults, strict=True)
    return tuple(tiles_along(axis, size, stride, default=default, adapt=adapt) for axis, size, stride, default in every)


def tiles_along(
    axis: Axis,
    size: int | None,
    stride: int | None,
    *,
    default: AxisTiles,
    adapt: bool,
) -> AxisTiles:
    """The tiles that a user asks for along one axis, in sample elements, checked; None takes the default.

    Height and width are multiples of the axis's ratio. A leading axis (time) takes any number of frames, as diffusers
    does: N frames are N // ratio + 1 cells and a stride of S frames S // ratio. With `adapt` a default stride follows
    a size that is given; diffusers' own do not.

    Raises:
        InputError: not a legal size; the message names the nearest ones.
    """
    cells = default.size if size is None else cells_of(axis, f"tile_sample_min_{axis.name}", size, extra=axis.leading)
    least = max(axis.minimum, 2 if axis.leading else 1)
    if cells < least:
        legal = (least - 1 if axis.leading else least) * axis.ratio
        raise InputError(
            f"{argument(f'tile_sample_min_{axis.name}')}: wanted at least {legal} ({least} latent cells, which the "
            "model needs), "
            f"got {size}"
        )
    name = f"tile_sample_stride_{axis.name}"
    most = cells - 1 if axis.leading else cells
    if stride is not None:
        step = cells_of(axis, name, stride)
    elif adapt and size is not None:
        overlap = min(default.size - default.stride, cells // 2)
        step = min(cells - overlap, most)
    else:
        step = default.stride
    if step < 1 or step > most:
        got = step * axis.ratio if stride is None else stride
        raise InputError(
            f"{argument(name)}: wanted from {axis.ratio} to {most * axis.ratio}, so that tiles of {cells} latent "
            "cells overlap "
            f"by less than a tile and leave no gap, got {got}"
        )
    return AxisTiles(cells, step, default.even and size is None and stride is None)


def overlap_factor_stride(size: int, factor: float, ratio: int, *, exact: bool) -> int:
    """The stride in sample elements of tiles of `size` that overlap by `factor` of it: AutoencoderKL's arguments
    `tile_sample_min_size` and `tile_overlap_factor`.

    With `exact` the overlap must be a whole number of latent cells: elsewhere diffusers' own tiles do not fit
    together (its output has the wrong size). Otherwise it is rounded to the nearest.

    Raises:
        InputError: not a factor, or one that does not divide; the message names the nearest that do.
    """
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 <= factor < 1:
        raise InputError(
            f"{argument('tile_overlap_factor')}: wanted a number from 0 up to and without 1, got {factor!r}"
        )
    cells = size // ratio
    # These are diffusers' own expressions, with its rounding.
    stride, blend = int(cells * (1 - factor)), int(size * factor)
    latent_stride, latent_blend = int(size * (1 - factor)), int(cells * factor)
    fits = stride * ratio == size - blend and latent_stride == (cells - latent_blend) * ratio and stride > 0
    if fits:
        return stride * ratio
    if exact:
        below = int(cells * factor)
        legal = " or ".join(f"{count / cells:.6g}" for count in (below, below + 1) if count < cells)
        raise InputError(
            f"{argument('tile_overlap_factor')}: {factor:g} of a {size} pixel tile is no whole number of its {cells} "
            "latent cells, "
            f"so diffusers' tiles would not fit together; the nearest that do: {legal}"
        )
    return (cells - min(round(cells * factor), cells - 1)) * ratio


def cells_of(axis: Axis, name: str, value: int, *, extra: int = 0) -> int:
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
    if not whole or value < 1:
        raise InputError(
            f"{argument(name)}: wanted a positive whole number, the smallest is {axis.ratio}, got {value!r}"
        )
    cells, rest = divmod(int(value), axis.ratio)
    if rest and not axis.leading:
        below = f"{cells * axis.ratio} or " if cells else ""
        raise InputError(
            f"{argument(name)}: wanted a multiple of {axis.ratio} (a latent cell), got {value}; "
            f"the nearest are {below}{(cells + 1) * axis.ratio}"
        )
    return cells + extra
